r"""Exports a trained or converted model: for TensorFlow Serving, for devices, as ONNX, or its weights.

    python tools/export.py --format=saved_model --run_dir=runs/mnist --out=saved_models/nvae --temperature=0.7
    python tools/export.py --format=tflite --run_dir=runs/mnist --out=exported/mnist --encoder
    python tools/export.py --format=onnx --run_dir=runs/mnist --out=exported/mnist_onnx
    python tools/export.py --format=weights --run_dir=runs/mnist --out=exported/mnist_weights

Without --run_dir it exports the model in saved_models/mnist, which ships with it. `weights` is a run folder without
what only training needs; the moving average of the weights, if there is one, becomes its weights.

A SavedModel becomes the next version of the folder once it has passed every check; no version is ever overwritten. For
how to serve it see saved_models/README.md.
"""

import os
import pathlib
import time

from absl import flags

from nvae_tf.export.saved_model.server_files import check_server_options, takes_versions
from nvae_tf.export.summary import show_files, show_saved_model
from nvae_tf.files import check_writable, is_vacant
from nvae_tf.hierarchy import num_sampled_groups
from nvae_tf.runs.families import require_folding
from nvae_tf.runs.starts import run_config
from tools.flags import (
    SHIPPED_RUN,
    define_path,
    define_run,
    define_statistics,
    define_temperature,
    run,
    use_shipped_run,
)

FLAGS = flags.FLAGS

_FORMATS = ("saved_model", "tflite", "onnx", "weights")
# Flags that do not apply to every format.
_OF_FORMATS = {
    **dict.fromkeys(("name", "pixels", "batch_sizes"), ("saved_model",)),
    **dict.fromkeys(("num_groups", "encoder"), ("tflite",)),
    "opset": ("onnx",),
    **dict.fromkeys(("temperature", "bn_temperature"), _FORMATS[:3]),
}

flags.DEFINE_enum("format", None, _FORMATS, "Format to write.", required=True)
define_run(required=False)
define_path(
    "out",
    None,
    "Folder to create; for a SavedModel it may already contain versions. exported/NAME_FORMAT if not given, where NAME "
    "is that of the run's folder.",
)
define_statistics()
define_temperature("Temperature that the export recommends.")
flags.DEFINE_string("name", "nvae", "saved_model: name of the model on the server.")
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "saved_model: mean of the likelihood, or a sample of it.")
flags.DEFINE_list("batch_sizes", ["1", "2", "4", "8", "16"], "saved_model: batch sizes for the server, ascending.")
flags.DEFINE_integer("num_groups", None, "tflite: number of groups to sample, coarsest first; default all.", 1)
flags.DEFINE_bool("encoder", False, "tflite: write the encoder too.")
flags.DEFINE_integer("opset", 18, "onnx: opset of the files.", 13, 18)


def _out(values):
    """The folder to write to, given {flag: value}."""
    name = os.path.basename(os.path.abspath(values["run_dir"] or SHIPPED_RUN))
    return pathlib.Path(values["out"] or os.path.join("exported", f"{name}_{values['format']}"))


def _is_free(values):
    out = _out(values)
    if not (takes_versions if values["format"] == "saved_model" else is_vacant)(out):
        raise flags.ValidationError(
            f"--out={out}: expected a new or empty folder or, for a SavedModel, one that has versions"
        )
    return True


flags.register_multi_flags_validator(["format", "run_dir", "out"], _is_free)
flags.register_validator(
    "batch_sizes",
    lambda texts: bool(texts) and all(text.isascii() and text.isdigit() for text in texts),
    message="expected whole numbers separated by commas",
)
for _name, _only in _OF_FORMATS.items():
    flags.register_multi_flags_validator(
        ["format", _name],
        lambda values, name=_name, only=_only: values["format"] in only or not FLAGS[name].present,
        message=f"expected --{_name} only with --format={' or '.join(_only)}",
    )


def main():
    use_shipped_run()
    out, sizes = _out(FLAGS.flag_values_dict()), [int(size) for size in FLAGS.batch_sizes]
    check_writable(out)
    # The model is loaded only if the other flags fit the run and the folder.
    config = run_config(FLAGS.run_dir, FLAGS.step)
    require_folding(config, "--run_dir")
    num_sampled_groups(config.model, FLAGS.num_groups)
    if FLAGS.format == "saved_model":
        check_server_options(out, FLAGS.name, sizes)
    from nvae_tf.runs.load import load_run
    from nvae_tf.runs.provenance import provenance

    if FLAGS.format == "weights":
        from nvae_tf.export.weights import export_weights

        for path in export_weights(load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema), out, FLAGS.run_dir):
            print(f"written: {path}")
        return
    nvae = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature)
    origin = provenance(FLAGS.run_dir, nvae, FLAGS.bn_temperature)
    if FLAGS.format == "saved_model":
        from nvae_tf.export.saved_model.export import export_saved_model

        start = time.perf_counter()

        def report(text):
            print(f"[{time.perf_counter() - start:5.1f} s] {text}", flush=True)

        options = {"name": FLAGS.name, "pixels": FLAGS.pixels, "temperature": FLAGS.temperature}
        show_saved_model(*export_saved_model(nvae, out, origin, batch_sizes=sizes, report=report, **options))
    elif FLAGS.format == "tflite":
        from nvae_tf.export.tflite.export import export_tflite

        options = {"num_groups": FLAGS.num_groups, "encoder": FLAGS.encoder, "temperature": FLAGS.temperature}
        export_tflite(nvae, out, origin, **options)
        show_files(out)
    else:
        from nvae_tf.export.onnx import export_onnx

        export_onnx(nvae, out, origin, opset=FLAGS.opset, temperature=FLAGS.temperature)
        show_files(out)


if __name__ == "__main__":
    run(main)
