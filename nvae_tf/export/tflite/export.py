"""A decoder for phones and browsers: TFLite files that run whole on a GPU delegate.

    OUT/
      decoder_float32.tflite, decoder_float16.tflite    signature `sample`
      encoder_float32.tflite, encoder_float16.tflite    signature `encode`, if asked for
      decoder.json, golden.bin                          what an app must know; see `sidecar`
      parity.json                                       how near the files come to Keras

Batch 1, float32 in and out. Weights in 8 bits are not offered: TFLite's dynamic quantisation moved the logits of a
trained MNIST model by 0.26 and the probabilities by 0.05, where float16 moves them by 0.004 and 0.0005.
"""

import importlib.metadata
import pathlib
import tempfile

import tensorflow as tf

from nvae_tf.export.device_graph import encode_graph, sample_graph, save_graph
from nvae_tf.export.parity import compare, draw_cases, write_parity
from nvae_tf.export.tflite.sidecar import write_sidecar
from nvae_tf.export.tflite.weights import cost, half_weights
from nvae_tf.files import new_folder
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel

_RUNTIME = "ai-edge-litert"


def export_tflite(nvae, out_dir, provenance, *, num_groups=None, encoder=False, temperature=0.7):
    """Exports a model's decoder.

    Args:
        nvae: `NVAE`, as `nvae_tf.load_run` gives it.
        out_dir: new folder.
        provenance: of the model, for the sidecar: `provenance.provenance`.
        num_groups: sample the first groups alone and put the others at their prior's mean; None for all. It
            spares the host most random numbers and gives smoother images; the graph costs as much. Default None.
        encoder: write the encoder too, to reconstruct and interpolate on the device. Default False.
        temperature: that the sidecar recommends. Default 0.7.

    Returns:
        Paths of the files.

    Raises:
        FileExistsError: `out_dir` is there already.
        ValueError: an argument out of range, or a file that does not agree with Keras.
        ImportError: ai-edge-litert is not installed.
    """
    nvae.group_temperatures(temperature)  # raises where it is none
    version = litert_version()
    with new_folder(out_dir) as folder:
        model = InferenceModel(fold(nvae))
        graphs = {"decoder": sample_graph(model, 1, num_groups)}
        if encoder:
            graphs["encoder"] = encode_graph(model, 1, noise_only=True)
        entries, decoder_cost, golden = [], None, {}
        for name, graph in graphs.items():
            content, cases = convert(model, graph), draw_cases(nvae, graph, 1, temperature)
            if name == "decoder":
                decoder_cost = cost(content)
            for precision, data in (("float32", content), ("float16", half_weights(content))):
                path = folder / f"{name}_{precision}.tflite"
                path.write_bytes(data)
                entries.append(compare(path, precision, _RUNTIME, version, runner(path, graph.name), cases))
            inputs, outputs = cases[0]
            golden[name] = inputs, {key: value for key, value in outputs.items() if key in entries[-1]["outputs"]}
        write_sidecar(
            folder,
            nvae.model_config,
            golden,
            graphs,
            temperature=temperature,
            provenance=provenance,
            cost=decoder_cost,
        )
        write_parity(folder, "TFLite", entries)
    return sorted(pathlib.Path(out_dir).iterdir())


def convert(model, graph):
    """Bytes of a .tflite file with float32 weights.

    Args:
        model: `InferenceModel` that the graph is of.
        graph: `DeviceGraph` of batch 1.
    """
    # No Keras layer is in the model, so the variables of a SavedModel become constants of the file without more.
    with tempfile.TemporaryDirectory() as folder:
        save_graph(model, graph, folder)
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[graph.name]).convert()


def litert_version():
    """Version of ai-edge-litert; `ImportError` that says what to install where there is none."""
    try:
        return importlib.metadata.version(_RUNTIME)
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError("TFLite files are checked with ai-edge-litert: pip install -e '.[device]'") from error


def runner(path, signature):
    """Function from {input: array} to {output: array} that runs a file on one thread of the CPU."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=1).get_signature_runner(signature)
    return lambda inputs: run(**inputs)
