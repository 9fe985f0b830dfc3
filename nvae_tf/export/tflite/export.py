"""A decoder for phones and browsers: TFLite files that run entirely on a GPU delegate.

    OUT/
      decoder_float32.tflite, decoder_float16.tflite    signature `sample`
      encoder_float32.tflite, encoder_float16.tflite    signature `encode`, if requested
      decoder.json, golden.bin                          what an app needs to know; see `sidecar`
      parity.json                                       how close the files are to Keras

Batch 1, float32 in and out. 8-bit weights are not offered: TFLite's dynamic quantisation changes the logits of a
trained MNIST model by 0.26 and the probabilities by 0.05, float16 by 0.004 and 0.0005.
"""

import tempfile

import tensorflow as tf

from nvae_tf.export.device_graph import encode_graph, sample_graph, save_graph
from nvae_tf.export.parity import draw_cases, export_folder
from nvae_tf.export.tflite.flatbuffer import cost, half_tflite
from nvae_tf.export.tflite.sidecar import write_sidecar
from nvae_tf.files import plain_path
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel


def export_tflite(nvae, out_dir, provenance, *, num_groups=None, encoder=False, temperature=0.7):
    """Exports the decoder of a model.

    Args:
        nvae: `NVAE`, as returned by `nvae_tf.load_run`.
        out_dir: folder, new or empty.
        provenance: `provenance.provenance` of the model, for the sidecar.
        num_groups: sample only the first groups and put the others at their prior's mean; None to sample all. The
            host draws far fewer random numbers and images are smoother; the graph costs as much. Default None.
        encoder: also write the encoder, to reconstruct and interpolate on the device. Default False.
        temperature: temperature that the sidecar recommends. Default 0.7.

    Raises:
        FileExistsError: `out_dir` is not empty.
        ValueError: an argument out of range, or a file that does not agree with Keras.
        ImportError: ai-edge-litert is not installed.
    """
    with export_folder(nvae, out_dir, "TFLite", "ai-edge-litert", temperature) as (folder, compare):
        model = InferenceModel(fold(nvae))
        graphs = {"decoder": sample_graph(model, 1, num_groups)}
        if encoder:
            graphs["encoder"] = encode_graph(model, 1, noise_only=True)
        costs, golden = {}, {}
        for name, graph in graphs.items():
            content, cases = convert_to_tflite(model, graph), draw_cases(nvae, graph, 1, temperature)
            costs[name] = cost(content)
            for precision, data in (("float32", content), ("float16", half_tflite(content))):
                path = folder / f"{name}_{precision}.tflite"
                path.write_bytes(data)
                outputs = compare(path, precision, tflite_runner(path, graph.name), cases)["outputs"]
            golden[name] = cases[0][0], {key: value for key, value in cases[0][1].items() if key in outputs}
        facts = {"temperature": temperature, "provenance": provenance, "cost": costs["decoder"]}
        write_sidecar(folder, nvae.model_config, golden, graphs, **facts)


def convert_to_tflite(model, graph):
    """Bytes of a .tflite file with float32 weights, of a `DeviceGraph` of batch 1 made from an `InferenceModel`."""
    # The model holds no Keras layer, so the converter makes constants of the SavedModel's variables.
    with tempfile.TemporaryDirectory() as temporary, plain_path(temporary) as folder:
        save_graph(model, graph, str(folder))
        return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[graph.name]).convert()


def tflite_runner(path, signature):
    """Function from {input: array} to {output: array} that runs a file on one thread of the CPU."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=1).get_signature_runner(signature)
    return lambda inputs: run(**inputs)
