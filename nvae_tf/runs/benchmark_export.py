"""Speed of exported models against the Keras model; for `benchmark.py --device` and `--serving`."""

import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.benchmark_step import matrix_product, median_seconds

TFLITE, ONNX, SAVED_MODEL = "TFLite", "onnxruntime", "SavedModel"
GENERATE, COMPILED = "model.generate", "model.generate in a tf.function"
SERVED, UNIT = "sample of the SavedModel", "unit"


def _in_every_runtime(config, folder):
    """{runtime: function that draws one image} of a model with random weights."""
    import onnx

    from nvae_tf.export import onnx as onnx_export
    from nvae_tf.export.device_graph import sample_graph, save_graph
    from nvae_tf.export.tflite import export as tflite

    nvae = NVAE(config.model)
    model = InferenceModel(fold(nvae))
    graph = sample_graph(model, 1)
    inputs = {name: np.full(spec.shape, 0.5, np.float32) for name, spec in graph.inputs.items()}
    noise = [tf.constant(value) for name, value in inputs.items() if name != "temperature"]
    temperature = tf.constant(inputs["temperature"])
    (folder / "decoder.tflite").write_bytes(tflite.convert_to_tflite(model, graph))
    onnx.save(onnx_export.convert_to_onnx(model, sample_graph(model)), folder / "decoder.onnx")
    save_graph(model, graph, folder / "saved_model")
    loaded = tf.saved_model.load(folder / "saved_model")
    served, tensors = loaded.signatures[graph.name], {name: tf.constant(value) for name, value in inputs.items()}
    in_tflite = tflite.tflite_runner(folder / "decoder.tflite", graph.name)
    in_onnx = onnx_export.onnx_runner(folder / "decoder.onnx")
    compiled = tf.function(nvae.generate, autograph=False)
    return {
        TFLITE: lambda: in_tflite(inputs)["likelihood_params"],
        ONNX: lambda: in_onnx(inputs)["likelihood_params"],
        # The default keeps `loaded`, and with it its variables, alive.
        SAVED_MODEL: lambda loaded=loaded: served(**tensors)["likelihood_params"].numpy(),
        COMPILED: lambda: compiled(noise, temperature=temperature).numpy(),
        GENERATE: lambda: nvae.generate(noise, temperature=temperature).numpy(),
    }


def device_speed(config, count):
    """Median seconds to decode one image in each runtime, in float32 on one thread; printed and returned.

    Args:
        config: `Config`; its decoder gets random weights.
        count: images drawn in each runtime.

    Returns:
        {"seconds": {runtime: seconds}, "times_as_fast_as_generate": {runtime: ratio}}.

    Raises:
        ValueError: two runtimes give different images.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = _in_every_runtime(config, pathlib.Path(folder))
        expected = runs[GENERATE]()
        for name, run in runs.items():
            if not np.allclose(run(), expected, rtol=0, atol=1e-3):
                raise ValueError(f"{name}: expected the likelihood parameters of {GENERATE}. Received: others")
        seconds = median_seconds(runs, count)
    ratios = {name: seconds[GENERATE] / value for name, value in seconds.items()}
    print("one image of the decoder, one thread:")
    for name, value in seconds.items():
        print(f"  {name:<34}{value * 1e3:>10.2f} ms{ratios[name]:>8.1f} times as fast as {GENERATE}")
    return {"seconds": seconds, "times_as_fast_as_generate": ratios}


def _serve(model, folder):
    """Saves the signatures and loads them into a Session, as a server does; function (name, inputs) -> outputs."""
    from nvae_tf.export.saved_model.signatures import Signatures

    signatures = Signatures(model)
    tf.saved_model.save(signatures, folder, signatures.functions)
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def

    def run(name, inputs):
        signature = loaded[name]
        fetches = {key: value.name for key, value in signature.outputs.items()}
        return session.run(fetches, {signature.inputs[key].name: value for key, value in inputs.items()})

    return run


def serving_speed(config, batch_size, count):
    """Median seconds to draw a batch of images, noise included, from the SavedModel and from the Keras model.

    Prints and returns the figures.

    Args:
        config: `Config`; its model gets random weights.
        batch_size: images at once.
        count: batches drawn from each.

    Returns:
        {"seconds": {SERVED, GENERATE, UNIT: of a matrix product}, "first_batch_seconds": of the SavedModel}.

    Raises:
        ValueError: the two give different images.
    """
    nvae = NVAE(config.model)
    kernels = nvae.effective_kernels()
    inputs = {"seed": np.zeros(batch_size, np.int64), "temperature": np.full(batch_size, 0.7, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        served = _serve(InferenceModel(fold(nvae)), folder)
    runs = {
        SERVED: lambda: served("sample", inputs)["image"],
        GENERATE: lambda: sample_images(nvae, batch_size, 0.7, batch_size=batch_size, kernels=kernels),
        UNIT: matrix_product(),
    }
    start = time.perf_counter()
    first = runs[SERVED]()
    first_seconds = time.perf_counter() - start
    # The image of a seed is image 0 of `sample_images`.
    if np.abs(first[0] - 255 * runs[GENERATE]()[0]).max() > 1:
        raise ValueError(f"{SERVED}: expected the image of {GENERATE}. Received: another")
    seconds = median_seconds(runs, count)
    print(f"drawing {batch_size} images:")
    for name, value in seconds.items():
        units, ratio = value / seconds[UNIT], seconds[GENERATE] / value
        print(f"  {name:<28}{value * 1e3:>10.1f} ms{units:>8.2f} units{ratio:>8.2f} times as fast as {GENERATE}")
    print(f"first batch in {first_seconds:.1f} s")
    return {"seconds": seconds, "first_batch_seconds": first_seconds}
