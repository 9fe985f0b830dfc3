"""Speed of a decoder in every runtime that it is exported to; for `benchmark.py --device`."""

import pathlib
import statistics
import tempfile
import time

TFLITE, ONNX, SAVED_MODEL = "TFLite", "onnxruntime", "SavedModel"
GENERATE, COMPILED = "model.generate", "model.generate in a tf.function"


def _runs(config, folder):
    """{name: function of nothing that draws one image}, of a model with random weights."""
    import numpy as np
    import onnx
    import tensorflow as tf

    from nvae_tf.export import onnx as onnx_export
    from nvae_tf.export.device_graph import sample_graph, save_graph
    from nvae_tf.export.tflite import export as tflite
    from nvae_tf.inference.folding import fold
    from nvae_tf.inference.model import InferenceModel
    from nvae_tf.models.nvae import NVAE

    nvae = NVAE(config.model)
    model = InferenceModel(fold(nvae))
    graph = sample_graph(model, 1)
    inputs = {name: np.full(spec.shape, 0.5, np.float32) for name, spec in graph.inputs.items()}
    noise = [tf.constant(value) for name, value in inputs.items() if name != "temperature"]
    temperature = tf.constant(inputs["temperature"])

    (folder / "decoder.tflite").write_bytes(tflite.convert(model, graph))
    onnx.save(onnx_export.convert(model, sample_graph(model)), folder / "decoder.onnx")
    save_graph(model, graph, folder / "saved_model")
    loaded = tf.saved_model.load(folder / "saved_model")
    served, tensors = loaded.signatures[graph.name], {name: tf.constant(value) for name, value in inputs.items()}
    in_tflite, in_onnx = (
        tflite.runner(folder / "decoder.tflite", graph.name),
        onnx_export.runner(folder / "decoder.onnx"),
    )
    compiled = tf.function(nvae.generate, autograph=False)
    return {
        TFLITE: lambda: in_tflite(inputs)["likelihood_params"],
        ONNX: lambda: in_onnx(inputs)["likelihood_params"],
        # `loaded` is kept: its variables go with it.
        SAVED_MODEL: lambda loaded=loaded: served(**tensors)["likelihood_params"].numpy(),
        COMPILED: lambda: compiled(noise, temperature=temperature).numpy(),
        GENERATE: lambda: nvae.generate(noise, temperature=temperature).numpy(),
    }


def device_speed(config, count):
    """Median seconds of one image, float32, in each runtime.

    The runtimes take turns, so that what else the machine does falls on all.

    Args:
        config: `Config`; its decoder gets random weights.
        count: images of each.

    Returns:
        {runtime: seconds}.

    Raises:
        ValueError: two runtimes give different images.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(config, pathlib.Path(folder))
        images, seconds = {name: run() for name, run in runs.items()}, {name: [] for name in runs}
        for name, image in images.items():
            if not np.allclose(image, images[GENERATE], rtol=0, atol=1e-3):
                raise ValueError(f"{name}: expected the likelihood parameters of {GENERATE}. Received: others")
        for _ in range(count):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def device_table(config, count):
    """Prints and returns the figures of `benchmark.py --device`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    seconds = device_speed(config, count)
    print("one image of the decoder, one thread:")
    for name, value in seconds.items():
        print(f"  {name:<34}{value * 1e3:>10.2f} ms{seconds[GENERATE] / value:>8.1f} times as fast as {GENERATE}")
    return {"seconds": seconds, "times_as_fast_as_generate": {n: seconds[GENERATE] / s for n, s in seconds.items()}}
