"""Speed of a served model's `sample` against that of the Keras model; for `benchmark.py --serving`."""

import pathlib
import statistics
import tempfile
import time

SERVED, GENERATE, UNIT = "sample of the SavedModel", "model.generate", "unit"
_MATMUL_SIZE = 2048


class _Served:
    """A SavedModel in a Session, as a server runs it."""

    def __init__(self, folder):
        import tensorflow as tf

        start = time.perf_counter()
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._signatures = tf.compat.v1.saved_model.load(self._session, ["serve"], folder).signature_def
        self.load_seconds = time.perf_counter() - start

    def run(self, name, inputs):
        """{name: array} of a signature's outputs."""
        signature = self._signatures[name]
        fetches = {key: value.name for key, value in signature.outputs.items()}
        return self._session.run(fetches, {signature.inputs[key].name: value for key, value in inputs.items()})


def serving_speed(config, batch_size, count):
    """Median seconds of drawing a batch, means of the likelihood, noise included, by what draws it.

    What is compared takes turns, so that what else the machine does falls on all.

    Args:
        config: `Config`; its model gets random weights.
        batch_size: images at once.
        count: batches of each.

    Returns:
        {"seconds": {SERVED, GENERATE, UNIT: a 2048 x 2048 float32 matrix product}, "load_seconds",
        "first_batch_seconds"} of the SavedModel.

    Raises:
        ValueError: the two give different images.
    """
    import numpy as np
    import tensorflow as tf

    from nvae_tf.evaluation.sampling import sample_images
    from nvae_tf.export.saved_model.signatures import Signatures
    from nvae_tf.inference.folding import fold
    from nvae_tf.inference.model import InferenceModel
    from nvae_tf.models.nvae import NVAE

    nvae = NVAE(config.model)
    kernels = nvae.effective_kernels()
    inputs = {"seed": np.zeros(batch_size, np.int64), "temperature": np.full(batch_size, 0.7, np.float32)}
    matrix = tf.random.stateless_normal([_MATMUL_SIZE, _MATMUL_SIZE], (0, 0))
    product = tf.function(lambda: tf.matmul(matrix, matrix))
    with tempfile.TemporaryDirectory() as folder:
        signatures = Signatures(InferenceModel(fold(nvae)))
        tf.saved_model.save(signatures, str(pathlib.Path(folder) / "1"), signatures.functions)
        served = _Served(f"{folder}/1")
    runs = {
        SERVED: lambda: served.run("sample", inputs)["image"],
        GENERATE: lambda: sample_images(nvae, batch_size, 0.7, batch_size=batch_size, kernels=kernels),
        UNIT: lambda: product().numpy(),
    }
    start = time.perf_counter()
    first = runs[SERVED]()
    first_seconds = time.perf_counter() - start
    # Image 0 of sample_images is what the seed alone draws.
    if np.abs(first[0] - 255 * runs[GENERATE]()[0]).max() > 1:
        raise ValueError(f"{SERVED}: expected the image of {GENERATE}. Received: another")
    seconds = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {"seconds": medians, "load_seconds": served.load_seconds, "first_batch_seconds": first_seconds}


def serving_table(config, batch_size, count):
    """Prints and returns the figures of `benchmark.py --serving`."""
    figures = serving_speed(config, batch_size, count)
    seconds = figures["seconds"]
    print(f"drawing {batch_size} images:")
    for name, value in seconds.items():
        units, ratio = value / seconds[UNIT], seconds[GENERATE] / value
        print(f"  {name:<28}{value * 1e3:>10.1f} ms{units:>8.2f} units{ratio:>8.2f} times as fast as {GENERATE}")
    print(f"loaded in {figures['load_seconds']:.1f} s, the first batch in {figures['first_batch_seconds']:.1f} s")
    return figures
