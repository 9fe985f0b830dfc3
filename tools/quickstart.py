r"""The whole way on real images in a few minutes: trains on scikit-learn's digits, evaluates, draws, reconstructs.

python tools/quickstart.py --run_dir=runs/quickstart

Run again, it goes on where it stopped. The run folder is an ordinary one: evaluate.py, sample.py and train.py work on
it.
"""

import importlib.util
import os
import pathlib
import time

from absl import app, flags

from nvae_tf.training.interruption import Interruption

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


def finish(run):
    """Evaluates the trained model on the test images and writes the pictures."""
    from training_run import pictures_of

    from nvae_tf.evaluation.images import save_grid, write_png
    from nvae_tf.evaluation.likelihood import evaluate
    from nvae_tf.evaluation.sampling import sample_images

    model, folder = run.trainer.model, run.folder.path
    result = evaluate(model, run.held_out_batches(100))
    print(
        f"test NELBO {result.nelbo:.2f} nats ({result.nelbo_bits_per_dim:.4f} bits/dim) on {result.num_images} images: "
        f"reconstruction {-result.reconstruction:.2f}, KL {result.kl:.2f}"
    )
    save_grid(folder / "samples.png", sample_images(model, _NUM_PICTURES, _TEMPERATURE))
    write_png(folder / "reconstructions.png", pictures_of(model, next(iter(run.held_out_batches(_NUM_PICTURES)))))
    print(f"written: {folder / 'samples.png'} (temperature {_TEMPERATURE}), {folder / 'reconstructions.png'}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    start = time.perf_counter()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    with Interruption() as stop:
        from prepare_run import prepare
        from run_program import run_program

        run = run_program("quickstart.py", stop, lambda: prepare(load_config(), FLAGS.run_dir, None, stop))
    finish(run)
    print(f"done in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)
