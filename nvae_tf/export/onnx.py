"""ONNX files of a model, for any batch size.

    OUT/
      sample.onnx    noise_00.., temperature -> likelihood_params and the mean; see `device_graph.sample_graph`
      decode.onnx    latent_00.. -> the same
      encode.onnx    image, posterior_noise_00.. -> latent_00.., noise_00.., kl_per_group
      *_float16.onnx the same with float16 weights
      parity.json    how close the files are to Keras

Images and likelihood parameters are [B, H, W, C] as everywhere, including padding. The metadata of every file hold the
provenance of the model. An export of configs/cifar10.py takes 5 GB of memory and three and a half minutes.
"""

import json

import numpy as np
import tensorflow as tf

from nvae_tf.config import config_to_dict
from nvae_tf.export.device_graph import decode_graph, encode_graph, sample_graph
from nvae_tf.export.parity import draw_cases, export_folder
from nvae_tf.inference.blocks import Convolution
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel

_LEAST_WEIGHTS = 1000


def export_onnx(nvae, out_dir, provenance, *, opset=18, temperature=0.7):
    """Exports a model.

    Args:
        nvae: `NVAE`, as returned by `nvae_tf.load_run`.
        out_dir: folder, new or empty.
        provenance: `provenance.provenance` of the model, for the metadata.
        opset: ONNX opset, 13 to 18, those that tf2onnx 1.17 writes. Default 18.
        temperature: temperature that the metadata recommend. Default 0.7.

    Raises:
        FileExistsError: `out_dir` is not empty.
        ValueError: an argument out of range, or a file that does not agree with Keras.
        ImportError: onnxruntime is not installed.
    """
    import onnx

    with export_folder(nvae, out_dir, "ONNX", "onnxruntime", temperature) as (folder, compare):
        model = InferenceModel(fold(nvae))
        metadata = {
            "temperature": temperature,
            "likelihood": nvae.model_config.likelihood,
            "model": config_to_dict(nvae.model_config),
            **provenance,
        }
        for graph in (sample_graph(model), decode_graph(model), encode_graph(model)):
            full = convert_to_onnx(model, graph, opset)
            for key, value in metadata.items():
                full.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
            cases = [case for rows in (1, 3) for case in draw_cases(nvae, graph, rows, temperature, num=2)]
            for precision, suffix in (("float32", ""), ("float16", "_float16")):
                path = folder / f"{graph.name}{suffix}.onnx"
                onnx.save(full if precision == "float32" else half_onnx(full), path)
                onnx.checker.check_model(str(path), full_check=True)
                compare(path, precision, onnx_runner(path), cases)


def convert_to_onnx(model, graph, opset=18):
    """`onnx.ModelProto` of a `DeviceGraph` of any batch size, made from an `InferenceModel`."""
    import tf2onnx

    # TensorFlow's freezing and every pass of tf2onnx's optimizer copy each constant and keep the copies: 13 GB for an
    # encoder of half a GB. During the conversion the kernels are therefore inputs.
    layers = {f"kernel_{i:04}": m for i, m in enumerate(m for m in model.submodules if isinstance(m, Convolution))}
    kernels = {name: layer.kernel for name, layer in layers.items()}
    specs = [*graph.inputs.values(), *(tf.TensorSpec(kernel.shape, name=name) for name, kernel in kernels.items())]

    def with_kernels(*values):
        given = dict(zip([*graph.inputs, *kernels], values, strict=True))
        for name, layer in layers.items():
            layer.kernel = given.pop(name)
        return graph.function(**given)

    converted, _ = tf2onnx.convert.from_function(tf.function(with_kernels, autograph=False), specs, opset=opset)
    for name, layer in layers.items():
        layer.kernel = kernels[name]
    _fill_in(converted.graph, {name: kernel.numpy() for name, kernel in kernels.items()})
    for value in (*converted.graph.input, *converted.graph.output):
        # Otherwise the batch size of each input has its own name.
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return converted


def _fill_in(graph, values):
    """Turns inputs {name: array} of an `onnx.GraphProto` into initializers, and likewise what depends only on them."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    to_array, from_array = onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    constants, values, nodes = {tensor.name: tensor for tensor in graph.initializer}, dict(values), []
    for node in graph.node:
        given = set(node.input)
        if given & values.keys() and given <= values.keys() | constants.keys():
            feeds = {name: values[name] if name in values else to_array(constants[name]) for name in node.input}
            (values[node.output[0]],) = ReferenceEvaluator(node).run(None, feeds)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name not in values]
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, content in ((graph.node, nodes), (graph.input, inputs), (graph.initializer, initializers)):
        del field[:]
        field.extend(content)
    for name in filter(used.__contains__, values):
        graph.initializer.append(from_array(values[name], name))


def half_onnx(model):
    """A copy of an `onnx.ModelProto` with large kernels of convolutions as float16, each followed by a Cast to float32.

    It computes in float32 as before; runtimes cast once, when they load the file. Depthwise and small kernels stay as
    they are, as in `tflite.flatbuffer.half_tflite`.
    """
    import onnx

    half, casts = onnx.ModelProto(), []
    half.CopyFrom(model)
    kernels = {node.input[1] for node in half.graph.node if node.op_type == "Conv" and _num_groups(node) == 1}
    for tensor in half.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.name in kernels and values.size >= _LEAST_WEIGHTS:
            name, stored = tensor.name, f"{tensor.name}/float16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half


def _num_groups(conv):
    return next((attribute.i for attribute in conv.attribute if attribute.name == "group"), 1)


def onnx_runner(path):
    """Function from {input: array} to {output: array} that runs a file on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
