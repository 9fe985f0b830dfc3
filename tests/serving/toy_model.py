"""A model of a few lines of NumPy behind the stand-in's protocol, in this process; tests give it faults."""

import contextlib
import io

import numpy as np
import PIL.Image
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from nvae_tf.files import file_sum, write_json
from nvae_tf.golden_answers import write_npz
from nvae_tf.serving.check.conformance import run_check
from tests.serving import stand_in_grpc, stand_in_rest

_ROWS, _FILES, _SEEDS = ("float32", [None]), ("string", [None]), ("int64", [None])
_IMAGE = ("uint8", [None, 6, 6, 1])
_PICTURES = {"image": _IMAGE, "png_bytes": _FILES}
_SAMPLE = ({"seed": _SEEDS, "temperature": _ROWS}, _PICTURES)
SIGNATURES = {
    "sample": _SAMPLE,
    "serving_default": _SAMPLE,
    "decode": (
        {"noise_00": ("float32", [None, 2, 2, 3]), "temperature": _ROWS},
        {"mean_image": ("float32", _IMAGE[1])},
    ),
    "encode": ({"image_bytes": _FILES}, {"kl_per_group": ("float32", [None, 1])}),
    "encode_pixels": ({"image": _IMAGE}, {"kl_per_group": ("float32", [None, 1])}),
    "encode_floats": ({"image": ("float32", _IMAGE[1])}, {"kl_per_group": ("float32", [None, 1])}),
    "reconstruct": ({"image_bytes": _FILES, "seed": _SEEDS, "temperature": _ROWS}, _PICTURES),
    "interpolate": ({"image_bytes_a": _FILES, "image_bytes_b": _FILES, "alpha": _ROWS}, _PICTURES),
    "interpolate_seeds": (
        {"seed_a": _SEEDS, "seed_b": _SEEDS, "alpha": _ROWS, "temperature": _ROWS},
        _PICTURES,
    ),
    "score": ({"image": _IMAGE, "seed": _SEEDS}, {"nelbo": _ROWS, "kl_per_group": ("float32", [None, 1])}),
}


def refuse(message, error=tf.errors.InvalidArgumentError):
    raise error(None, None, message)


class ToyModel:
    """Version 3 of a model `toy`, with the label `stable`, in the form that the stand-in's services expect.

    Attributes that tests replace: `signatures`; `state` of the version; `checks`, False to accept any input; `hook`,
    called first with a signature's name and inputs; `change`, called last with its name and outputs.
    """

    name = "toy"

    def __init__(self):
        self.signatures = dict(SIGNATURES)
        self.state = ModelVersionStatus.AVAILABLE
        self.checks = True
        self.hook = lambda name, inputs: None
        self.change = lambda name, outputs: outputs

    # For the services.

    @contextlib.contextmanager
    def use(self, name, number=None, label=""):
        self._find(name, number, label)
        yield 3, self

    def status(self, name, number=None, label=""):
        self._find(name, number, label)
        status = ModelVersionStatus(version=3, state=self.state)
        status.status.SetInParent()
        return [status]

    def metadata(self, name, number=None, label=""):
        self._find(name, number, label)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.version.value = 3
        definitions = get_model_metadata_pb2.SignatureDefMap()
        # Every SavedModel of TensorFlow 2 has it.
        definitions.signature_def["__saved_model_init_op"].outputs["x"].tensor_shape.unknown_rank = True
        for name in self.signatures:
            definitions.signature_def[name].CopyFrom(self.signature(name))
        response.metadata["signature_def"].Pack(definitions)
        return response

    def signature(self, name):
        name = name or "serving_default"
        if name not in self.signatures:
            refuse(f"Serving signature key {name} not found.", tf.errors.FailedPreconditionError)
        definition = SignatureDef()
        for infos, specs in zip((definition.inputs, definition.outputs), self.signatures[name], strict=True):
            for tensor, (dtype, shape) in specs.items():
                infos[tensor].dtype = tf.as_dtype(dtype).as_datatype_enum
                for size in shape:
                    infos[tensor].tensor_shape.dim.add(size=-1 if size is None else size)
        return definition

    def predict(self, name, inputs, output_filter=()):
        self.signature(name)
        name = name or "serving_default"
        self.hook(name, inputs)
        if self.checks:
            _check(SIGNATURES[name][0], inputs)
        return self.change(name, getattr(self, f"_{name}")(**inputs))

    def _find(self, name, number, label):
        if name != "toy" or number not in (None, 3) or label not in ("", "stable"):
            refuse(f"Servable not found for request: {name} {number}", tf.errors.NotFoundError)

    # The signatures.

    def _sample(self, seed, temperature):
        noise = np.stack([np.random.default_rng(np.uint64(value)).standard_normal((6, 6, 1)) for value in seed])
        return _pictures(128 + 40 * noise * temperature[:, None, None, None])

    _serving_default = _sample

    def _decode(self, noise_00, temperature):
        mean = np.tanh(noise_00.mean(-1, keepdims=True) * temperature[:, None, None, None]) / 2 + 0.5
        return {"mean_image": mean.repeat(3, 1).repeat(3, 2).astype(np.float32)}

    def _encode(self, image_bytes):
        return self._encode_pixels(_read(image_bytes))

    def _encode_pixels(self, image):
        return self._encode_floats(image / 255)

    def _encode_floats(self, image):
        return {"kl_per_group": image.mean((1, 2), dtype=np.float32)}

    def _reconstruct(self, image_bytes, seed, temperature):
        return _pictures(_read(image_bytes) / 2 + self._sample(seed, temperature)["image"] / 2)

    def _interpolate(self, image_bytes_a, image_bytes_b, alpha):
        alpha = alpha[:, None, None, None]
        first, second = _read(image_bytes_a, "image_bytes_a"), _read(image_bytes_b, "image_bytes_b")
        return _pictures(first * (1 - alpha) + second * alpha)

    def _interpolate_seeds(self, seed_a, seed_b, alpha, temperature):
        first, second = (self._sample(seed, temperature)["image"] for seed in (seed_a, seed_b))
        return _pictures(first * (1 - alpha[:, None, None, None]) + second * alpha[:, None, None, None])

    def _score(self, image, seed):
        kl = (image.mean((1, 2)) / 8 + (seed[:, None] % 7)).astype(np.float32)
        return {"nelbo": kl[:, 0] + 1, "kl_per_group": kl}


def _check(specs, inputs):
    if set(inputs) != set(specs):
        refuse(f"inputs: {sorted(inputs)}")
    for name, (dtype, shape) in specs.items():
        array = inputs[name]
        if array.dtype != (object if dtype == "string" else dtype):
            refuse(f"{name}: {array.dtype}")
        if array.ndim != len(shape) or list(array.shape[1:]) != shape[1:]:
            refuse(f"{name}: {array.shape}")
        if dtype == "float32" and not np.isfinite(array).all():
            refuse(f"{name}: not finite")
        if dtype == "float32" and name in ("image", "alpha") and not ((array >= 0) & (array <= 1)).all():
            refuse(f"{name}: not in [0, 1]")
        if name == "temperature" and not (array > 0).all():
            refuse(f"{name}: not positive")
    if len({len(array) for array in inputs.values()}) != 1:
        refuse("inputs: rows differ")


def _objects(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def _pictures(values):
    images = np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
    return {"image": images, "png_bytes": _objects([png(image) for image in images])}


def png(image):
    """A PNG file of an image [H, W, 1]."""
    file = io.BytesIO()
    PIL.Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


def _read(files, name="image_bytes"):
    try:
        return np.stack([np.asarray(PIL.Image.open(io.BytesIO(content))).reshape(6, 6, 1) for content in files])
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        refuse(f"{name}: {error}")


class Rattled:
    """A model's hook and change, which spoil samples after a request has been refused."""

    refused = False

    def hook(self, name, inputs):
        self.refused |= name == "sample" and bool((np.asarray(inputs.get("temperature", 1)) <= 0).any())

    def change(self, name, outputs):
        return outputs | {"image": outputs["image"] ^ 255} if self.refused else outputs


@contextlib.contextmanager
def serving(model, grpc_port=0, rest_port=0):
    """Context of (gRPC port, REST port) of a `ToyModel` on the loopback; 0 for free ones."""
    grpc_server, grpc_port = stand_in_grpc.serve(model, grpc_port)
    rest_server, rest_port = stand_in_rest.serve(model, rest_port)
    yield grpc_port, rest_port
    grpc_server.stop(None)
    rest_server.shutdown()
    rest_server.server_close()


def _examples():
    """Correct inputs of every signature, two rows each."""
    seeds, numbers = np.array([1, 2]), np.array([0.7, 0.25], np.float32)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), np.uint8)
    values = {"image": images, "noise_00": np.random.default_rng(1).standard_normal((2, 2, 2, 3), np.float32)}
    by_dtype = {"int64": seeds, "float32": numbers, "string": _objects([png(image) for image in images])}
    examples = {
        name: {key: values.get(key, by_dtype.get(dtype)) for key, (dtype, _) in inputs.items()}
        for name, (inputs, _) in SIGNATURES.items()
        if name != "serving_default"
    }
    examples["encode_floats"]["image"] = images / np.float32(255)
    return examples


EXAMPLES = _examples()


def write_card(folder, model, examples):
    """Writes model.json, and golden.npz of a model's answers to `{signature: inputs}`. Returns the card's path."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = {name: (inputs, model.predict(name, inputs)) for name, inputs in examples.items()}
    write_npz(folder / "golden.npz", answers)
    signatures = {
        name: {
            side: {tensor: {"dtype": dtype, "shape": shape} for tensor, (dtype, shape) in specs.items()}
            for side, specs in zip(("inputs", "outputs"), sides, strict=True)
        }
        for name, sides in model.signatures.items()
        if name != "serving_default"
    }
    golden = {"file": "golden.npz", "sha256": file_sum(folder / "golden.npz")}
    card = folder / "model.json"
    write_json(card, {"signatures": signatures, "golden": golden, "pixels": "mean", "allowed_batch_sizes": [1, 2, 4]})
    return card


def failures(checks):
    """{name: reason} of the checks that fail."""
    outcomes = [run_check(check) for check in checks]
    assert outcomes and len({outcome.name for outcome in outcomes}) == len(outcomes)
    return {outcome.name: outcome.reason for outcome in outcomes if not outcome.passed}
