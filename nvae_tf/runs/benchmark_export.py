"""Speed of exported models against the model in this program; for `benchmark.py --device` and `--serving`."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.benchmark_step import matrix_product, median_seconds

_GENERATE, _SAMPLE = "model.generate", "sample_images"


def _in_every_runtime(config, folder):
    """{runtime: function that draws one image} for a model with random weights."""
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
        "TFLite": lambda: in_tflite(inputs)["likelihood_params"],
        "onnxruntime": lambda: in_onnx(inputs)["likelihood_params"],
        # The default keeps `loaded`, and with it its variables, alive.
        "SavedModel": lambda loaded=loaded: served(**tensors)["likelihood_params"].numpy(),
        "model.generate in a tf.function": lambda: compiled(noise, temperature=temperature).numpy(),
        _GENERATE: lambda: nvae.generate(noise, temperature=temperature).numpy(),
    }


def _table(title, seconds, base):
    """Prints the times next to that of the name `base`; returns them as {"seconds": {name: seconds}}."""
    print(title)
    for name, value in seconds.items():
        ratio = seconds[base] / value
        print(f"  {name:<34}{value * 1e3:>10.2f} ms{ratio:>8.2f} times as fast as {base}")
    return {"seconds": seconds}


def device_speed(config, count):
    """Prints and returns the median seconds to decode one of `count` images in each runtime, in float32 on one thread.

    The decoder of the `Config` gets random weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        seconds = median_seconds(_in_every_runtime(config, pathlib.Path(folder)), count)
    return _table("one image of the decoder, one thread:", seconds, _GENERATE)


def serving_speed(config, count):
    """Median seconds to draw a batch of images, noise included, from the SavedModel and as tools/sample.py does.

    The times of `count` batches, and that of a matrix product, are printed and returned. The model of the `Config` gets
    random weights.
    """
    from nvae_tf.export.saved_model.signatures import Signatures

    model, batch_size = InferenceModel(fold(NVAE(config.model))), config.train.batch_size
    inputs = {"seed": tf.zeros(batch_size, tf.int64), "temperature": tf.fill([batch_size], 0.7)}
    with tempfile.TemporaryDirectory() as folder:
        signatures = Signatures(model)
        tf.saved_model.save(signatures, folder, signatures.functions)
        loaded = tf.saved_model.load(folder)
    runs = {
        "sample of the SavedModel": lambda: loaded.signatures["sample"](**inputs)["image"].numpy(),
        _SAMPLE: lambda: sample_images(model, batch_size, 0.7, batch_size=batch_size),
        "unit": matrix_product(),
    }
    return _table(f"drawing {batch_size} images:", median_seconds(runs, count), _SAMPLE)
