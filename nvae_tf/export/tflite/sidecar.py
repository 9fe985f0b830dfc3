"""decoder.json: what an app needs to know about a decoder's files, and golden numbers to check them with."""

import json
import pathlib

from nvae_tf import hierarchy
from nvae_tf.export.device_graph import mean_name
from nvae_tf.files import file_sum, write_json
from nvae_tf.golden_answers import check_sum, read_bin, write_bin

_FORMAT = 1
_GOLDEN = "golden.bin"

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
_ENCODED = "the noise from which `sample` at temperature 1 makes the image's latents; zeros in give their means"
_NOISE = "standard normal"
_DISTRIBUTIONS = {
    "temperature": "a positive number, by which the graph multiplies the noise",
    "image": "an image in [0, 1], with padding of zeros",
}


def write_sidecar(folder, model_config, cases, graphs, *, temperature, provenance, cost):
    """Writes golden.bin and decoder.json beside the .tflite files of a folder.

    `graphs` is {"decoder": `DeviceGraph`}, optionally with "encoder"; `cases` holds the golden numbers of each,
    ({input: array}, {output: array}), computed by the Keras model; `cost` is {"parameters", "macs"} of the decoder.
    """
    files = sorted(path.name for path in folder.glob("*.tflite"))
    likelihood, padding = model_config.likelihood, model_config.padding
    arrays = write_bin(folder / _GOLDEN, cases)
    parts = {name: _part(name, graph, cases[name][1], arrays[name]) for name, graph in graphs.items()}
    content = {
        "format": _FORMAT,
        **parts["decoder"],
        "encoder": parts.get("encoder"),
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
        "num_sampled_groups": len(cases["decoder"][0]) - 1,
        "temperature": temperature,
        **cost,
        "checkpoint": {"step": provenance["run"]["step"], "sha256": provenance["run"]["checkpoint_sha256"]},
        "provenance": provenance,
        "sha256": {name: file_sum(folder / name) for name in (*files, _GOLDEN)},
    }
    write_json(folder / "decoder.json", content)


def _part(name, graph, outputs, arrays):
    """The sidecar's part on one graph, whose golden outputs are {name: array}."""

    def tensors(values, key, texts, default):
        described = ((one, list(value.shape), texts.get(one, default)) for one, value in values.items())
        return [{"name": one, "shape": shape, "dtype": "float32", key: text} for one, shape, text in described]

    return {
        "signature": graph.name,
        "files": {precision: f"{name}_{precision}.tflite" for precision in ("float32", "float16")},
        "inputs": tensors(graph.inputs, "distribution", _DISTRIBUTIONS, _NOISE),
        "outputs": tensors(outputs, "meaning", _MEANINGS, _ENCODED),
        "golden": {"file": _GOLDEN, "arrays": arrays},
    }


def sidecar_answers(path, tflite_path, signature):
    """Golden numbers ({input: array}, {output: array}) for one of a sidecar's files; None for an unknown signature.

    Raises ValueError if the file is not a sidecar, or if the SHA-256 of a file differs from the sidecar's.
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
