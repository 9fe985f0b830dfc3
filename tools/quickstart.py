r"""The whole way on real images in a few minutes: trains on scikit-learn's digits, evaluates, draws, exports.

python tools/quickstart.py --run_dir=runs/quickstart

Run again, it goes on where it stopped. The run folder is an ordinary one: evaluate.py, sample.py and train.py work on
it.
"""

import importlib.util
import pathlib
import time

from absl import flags

from nvae_tf.runs.interruption import Interruption
from tools.flags import run

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", "runs/quickstart", "Folder of the run: made, or gone on with.")

_CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "digits.py"
_NUM_PICTURES = 64
_TEMPERATURE = 0.8


def load_config():
    """The configuration of configs/digits.py."""
    spec = importlib.util.spec_from_file_location("digits", _CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def finish(trained):
    """Evaluates the trained model on the test images, writes the pictures and exports it."""
    from nvae_tf.checkpoint.figures import evaluation_context, write_evaluation
    from nvae_tf.evaluation.likelihood import evaluate
    from nvae_tf.evaluation.sampling import sample_images
    from nvae_tf.evaluation.write_images import save_grid, write_png
    from nvae_tf.objectives.kl import ACTIVE_KL
    from nvae_tf.runs.load import load_run
    from nvae_tf.runs.training_run import pictures_of

    folder = run.folder.path
    model = load_run(folder)
    result = evaluate(model, run.held_out_batches(100))
    print(
        f"test NELBO {result.nelbo:.2f} nats ({result.nelbo_bits_per_dim:.4f} bits/dim) on {result.num_images} images: "
        f"reconstruction {-result.reconstruction:.2f}, KL {result.kl:.2f}"
    )
    write_evaluation(folder, evaluation_context(model, "test", 0, ACTIVE_KL), result)
    save_grid(folder / "samples.png", sample_images(model, _NUM_PICTURES, _TEMPERATURE))
    write_png(folder / "reconstructions.png", pictures_of(model, next(iter(run.held_out_batches(_NUM_PICTURES)))))
    print(f"written: {folder / 'samples.png'} (temperature {_TEMPERATURE}), {folder / 'reconstructions.png'}")
    export(model, folder)


def export(model, run_dir):
    """Exports in every format that is not there yet for this step, each checked against Keras.

    Args:
        model: `NVAE` as `nvae_tf.load_run` gives it.
        run_dir: `pathlib.Path` of the run.
    """
    import tensorflow as tf

    from nvae_tf.export.onnx import export_onnx
    from nvae_tf.export.saved_model.export import export_saved_model
    from nvae_tf.export.summary import show_files, show_saved_model
    from nvae_tf.export.tflite.export import export_tflite
    from nvae_tf.runs.provenance import provenance

    # GPUs would round to ten bits (TensorFloat-32), far more than an export may differ from Keras.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    origin = provenance(run_dir, model)
    folder, options = run_dir / "exported" / f"step_{model.restored_step:08d}", {"temperature": _TEMPERATURE}
    for name, write in (("tflite", export_tflite), ("onnx", export_onnx)):
        if _is_new(folder / name):
            show_files(write(model, folder / name, origin, **options))
    if _is_new(folder / "saved_model"):
        show_saved_model(*export_saved_model(model, folder / "saved_model", origin, **options))


def _is_new(path):
    if path.exists():
        print(f"there already: {path}")
    return not path.exists()


def main():
    start = time.perf_counter()
    with Interruption() as stop:
        from nvae_tf.runs.prepare import prepare
        from nvae_tf.runs.program import train

        trained = train(lambda: prepare(load_config(), FLAGS.run_dir, None, stop), stop)
    finish(trained)
    print(f"done in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run(main)
