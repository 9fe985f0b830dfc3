"""decoder.json: what an app must know about a decoder's files, and golden numbers to check them with."""

import json
import pathlib

from nvae_tf import hierarchy
from nvae_tf.export.device_graph import mean_name
from nvae_tf.files import file_sum, write_json
from nvae_tf.golden_answers import check_sum, read_bin, write_bin

_FORMAT = 1
SIDECAR, GOLDEN = "decoder.json", "golden.bin"

_HOW = {
    "bernoulli": "A value is 1 with the probability in `probabilities` (the sigmoid of likelihood_params), else 0.",
    "logistic_mixture": (
        "K = num_mixtures. The channels of likelihood_params are K logits, then for each image channel c: K means, K "
        "log scales (at least -7), and K coefficients for each pair dealt to c (before tanh; for RGB one per channel, "
        "of the pairs (1,0), (2,0), (2,1)). A pixel takes the component with the largest logit + Gumbel noise; channel "
        "c is its mean + exp(log scale) * logistic noise + the sum over earlier channels of tanh(coefficient) * their "
        "value, each clipped to [-1, 1]; the image is (value + 1) / 2. `mean_image` mixes means and coefficients by "
        "softmax(logits)."
    ),
    "normal": (
        "The channels of likelihood_params are C locations and C log scales, each to be clamped by 5 tanh(x / 5). A "
        "value is location + (exp(log scale) + 0.01) * normal noise, clipped to [-1, 1]; the image is (value + 1) / 2. "
        "`mean_image` is that without noise."
    ),
}
_MEANINGS = {
    "likelihood_params": "parameters of the likelihood of every pixel; see likelihood.how",
    "probabilities": "probability of a 1 for every value",
    "mean_image": "the likelihood's mean image in [0, 1]",
}
_NOISE = "standard normal"
_DISTRIBUTIONS = {
    "temperature": "a positive number, by which the graph multiplies the noise",
    "image": "an image in [0, 1], with padding of zeros",
}


def write_sidecar(folder, model_config, cases, graphs, *, temperature, provenance, cost):
    """Writes golden.bin and decoder.json beside the .tflite files of a folder.

    Args:
        folder: `pathlib.Path` of a folder with `NAME_float32.tflite` and `NAME_float16.tflite`.
        model_config: `ModelConfig`.
        cases: for each of `graphs` its golden numbers ({input: array}, {output: array}), computed by the Keras model.
        graphs: `{"decoder": DeviceGraph}`, optionally with `"encoder"`.
        temperature: recommended temperature.
        provenance: that of the model.
        cost: {"parameters", "macs"} of the decoder.
    """
    inputs, outputs = cases["decoder"]
    files = sorted(path.name for path in folder.glob("*.tflite"))
    likelihood, padding = model_config.likelihood, model_config.padding
    arrays = write_bin(folder / GOLDEN, cases)
    golden = {name: {"file": GOLDEN, "arrays": arrays[name]} for name in cases}
    content = {
        "format": _FORMAT,
        **_signature("decoder", graphs["decoder"]),
        "outputs": [_tensor(name, outputs[name].shape, meaning=_MEANINGS[name]) for name in outputs],
        "encoder": None,
        "image": {
            "height": model_config.image_height - 2 * padding,
            "width": model_config.image_width - 2 * padding,
            "channels": model_config.image_channels,
            "padding": padding,
            "bit_depth": model_config.bit_depth,
            "value_range": [0, 1],
        },
        "likelihood": {"kind": likelihood, "num_mixtures": model_config.num_mixtures, "how": _HOW[likelihood]},
        "mean": mean_name(model_config),
        "num_groups": hierarchy.num_groups(model_config),
        "num_sampled_groups": len(inputs) - 1,
        "temperature": temperature,
        **cost,
        "golden": golden["decoder"],
        "checkpoint": {"step": provenance["run"]["step"], "sha256": provenance["run"]["checkpoint_sha256"]},
        "provenance": provenance,
        "sha256": {name: file_sum(folder / name) for name in (*files, GOLDEN)},
    }
    if "encoder" in graphs:
        content["encoder"] = {**_encoder(graphs["encoder"]), "golden": golden["encoder"]}
    write_json(folder / SIDECAR, content)


def _encoder(graph):
    noise = {name: spec for name, spec in graph.inputs.items() if name != "image"}
    meaning = "the noise from which `sample` at temperature 1 makes the image's latents; zeros in give their means"
    outputs = [_tensor(name.removeprefix("posterior_"), spec.shape, meaning=meaning) for name, spec in noise.items()]
    return {**_signature("encoder", graph), "outputs": outputs}


def _signature(name, graph):
    inputs = [
        _tensor(key, spec.shape, distribution=_DISTRIBUTIONS.get(key, _NOISE)) for key, spec in graph.inputs.items()
    ]
    files = {precision: f"{name}_{precision}.tflite" for precision in ("float32", "float16")}
    return {"signature": graph.name, "files": files, "inputs": inputs}


def _tensor(name, shape, **more):
    return {"name": name, "shape": list(shape), "dtype": "float32", **more}


def sidecar_answers(path, tflite_path, signature):
    """Golden numbers of a sidecar for one of its .tflite files, which has the given signature.

    Returns:
        ({input: array}, {output: array}); None if the sidecar has none for the signature.

    Raises:
        ValueError: not a sidecar, or files whose SHA-256 differs from the sidecar's.
    """
    path = pathlib.Path(path)
    try:
        sidecar = json.loads(path.read_bytes())
        sums = dict(sidecar["sha256"])
        golden = ((sidecar["encoder"] or {}) if signature == "encode" else sidecar).get("golden")
        if golden is None:
            return None
        golden_path = path.with_name(golden["file"])
        answers = read_bin(golden_path, golden["arrays"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a sidecar with its golden file. Received: {error!r}") from error
    for each in (pathlib.Path(tflite_path), golden_path):
        check_sum(each, sums.get(each.name), path)
    return answers
