r"""Draws digits, trains on scikit-learn's digits, evaluates, samples and exports, all within a few minutes.

python tools/quickstart.py --run_dir=runs/quickstart

The first picture, RUN_DIR/mnist_samples.png, is drawn by the model in saved_models/mnist, which took hours to train.
The same command resumes where it stopped. The run folder is an ordinary one: evaluate.py, sample.py and train.py work
with it.
"""

import pathlib
import runpy
import sys
import time

from absl import flags

from nvae_tf.files import only_writer
from nvae_tf.runs.interruption import EXIT_STATUS, Interruption
from tools.flags import SHIPPED_RUN, SHIPPED_TEMPERATURE, define_path, run

FLAGS = flags.FLAGS

define_path("run_dir", "runs/quickstart", "Folder of the run to create or resume.")
flags.DEFINE_integer("scale", None, "Side of a pixel in the samples; by default a grid is at least 512 wide.", 1, 64)

_CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "digits.py"
_NUM_PICTURES = 64
_TEMPERATURE = 0.8


def draw_digits():
    """Draws from the model that ships with the programs, if it is there."""
    from nvae_tf.evaluation.sampling import sample_images
    from nvae_tf.evaluation.write_images import save_grid
    from nvae_tf.runs.load import load_folded

    if not (SHIPPED_RUN / "config.json").is_file():
        print(f"no digits of MNIST: {SHIPPED_RUN} is not there")
        return
    model, path = load_folded(SHIPPED_RUN, batch_norm_temperature=SHIPPED_TEMPERATURE), pathlib.Path(FLAGS.run_dir)
    path /= "mnist_samples.png"
    save_grid(
        path, sample_images(model, _NUM_PICTURES, SHIPPED_TEMPERATURE, batch_size=_NUM_PICTURES), scale=FLAGS.scale
    )
    print(f"written: {path} ({_NUM_PICTURES} digits of MNIST, drawn by {SHIPPED_RUN})", flush=True)


def finish(trained):
    """Evaluates the model of a finished `TrainingRun` on the test images, writes pictures and exports it."""
    from nvae_tf.checkpoint.figures import evaluation_context, write_evaluation
    from nvae_tf.evaluation.likelihood import evaluate
    from nvae_tf.evaluation.sampling import reconstruction_grid, sample_images
    from nvae_tf.evaluation.write_images import save_grid, write_png
    from nvae_tf.inference.folding import fold
    from nvae_tf.inference.model import InferenceModel
    from nvae_tf.runs.load import load_run

    folder = trained.folder.path
    nvae = load_run(folder)
    model = InferenceModel(fold(nvae))
    result = evaluate(model, trained.held_out_batches(100))
    print(
        f"test NELBO {result.nelbo:.2f} nats ({result.nelbo_bits_per_dim:.4f} bits/dim) on {result.num_images} images: "
        f"reconstruction {-result.reconstruction:.2f}, KL {result.kl:.2f}"
    )
    write_evaluation(folder / "evaluation.json", evaluation_context(nvae, "test", 0), result)
    images = next(iter(trained.held_out_batches(_NUM_PICTURES)))
    write_png(folder / "reconstructions.png", reconstruction_grid(model, images))
    save_grid(folder / "samples.png", sample_images(model, _NUM_PICTURES, _TEMPERATURE), scale=FLAGS.scale)
    print(f"written: {folder / 'samples.png'} (temperature {_TEMPERATURE}), {folder / 'reconstructions.png'}")
    export(nvae, folder)


def export(model, run_dir):
    """Exports a model that `load_run` returned in each format still missing for its step; every export is checked."""
    from nvae_tf.export.onnx import export_onnx
    from nvae_tf.export.parity import PARITY
    from nvae_tf.export.saved_model.export import export_saved_model
    from nvae_tf.export.summary import show_files, show_saved_model
    from nvae_tf.export.tflite.export import export_tflite
    from nvae_tf.runs.provenance import provenance

    origin = provenance(run_dir, model)
    folder = run_dir / "exported" / f"step_{model.restored_step:08d}"
    formats = {
        "tflite": (export_tflite, PARITY),
        "onnx": (export_onnx, PARITY),
        "saved_model": (export_saved_model, f"[0-9]*/assets.extra/{PARITY}"),
    }
    for name, (write, finished) in formats.items():
        if any((folder / name).glob(finished)):
            print(f"exists already: {folder / name}")
            continue
        written = write(model, folder / name, origin, temperature=_TEMPERATURE)
        show_saved_model(*written) if name == "saved_model" else show_files(folder / name)


def main():
    start = time.perf_counter()
    with only_writer(FLAGS.run_dir):
        draw_digits()
        with Interruption() as interruption:
            from nvae_tf.runs.prepare import prepare

            config = runpy.run_path(str(_CONFIG))["get_config"]()
            trained = prepare(config, FLAGS.run_dir, None, interruption)
            trained.run()
        if trained.stopped:
            sys.exit(EXIT_STATUS)
        finish(trained)
    print(f"done in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run(main)
