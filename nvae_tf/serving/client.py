r"""A client of an exported model.

from nvae_tf.serving.client import Client
from nvae_tf.serving.grpc_transport import GrpcTransport

with Client(GrpcTransport("localhost", 8500), model="nvae") as client:
    images = client.sample([1, 2, 3], temperature=0.7)["image"]  # uint8 [3, H, W, C]
"""

import numbers
import random
import time

import numpy as np

from nvae_tf.serving.inputs import check_inputs
from nvae_tf.serving.protocol import InputError, ModelSpec, ServerError

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


class Client:
    """Asks one model on one server, by gRPC or REST. Threads may share it.

    Inputs are checked before they are sent (`nvae_tf.serving.inputs`). A request that finds the server unavailable is
    retried after waits that double, each of random length so that many clients do not come back at once; no other
    error is retried. The signatures are read from the server once, so create a new client when a version with
    different shapes has been published under the same name.

    Args:
        transport: `GrpcTransport` or `RestTransport`.
        model: name of the model. Default "nvae".
        version: an integer; None for the version of the label, or the latest. Default None.
        label: label of a version, such as "stable". Default None.
        timeout_seconds: time limit for each request, including all retries and waits. Default 60.
        max_retries: maximum number of retries of a request. Default 5.

    Raises:
        ValueError: an argument out of range, or both a version and a label.
        ServerError: raised by every method if there is no answer.
        InputError: raised by every method that sends inputs if they do not fit the signature.
    """

    def __init__(self, transport, model="nvae", version=None, label=None, timeout_seconds=60.0, max_retries=5):
        if version is not None and label is not None:
            raise ValueError(f"version, label: expected one at most. Received: {version} and {label}")
        if not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds: expected a positive number. Received: {timeout_seconds}")
        if max_retries < 0:
            raise ValueError(f"max_retries: expected at least 0. Received: {max_retries}")
        self.model = ModelSpec(model, version, label)
        self._transport, self._timeout, self._max_retries = transport, timeout_seconds, max_retries
        self._signatures = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Closes the connection."""
        self._transport.close()

    def status(self):
        """List of `VersionStatus`, the latest version first."""
        return self._send(lambda timeout: self._transport.status(self.model, timeout))

    def metadata(self):
        """`Metadata` of the version that answers."""
        return self._send(lambda timeout: self._transport.metadata(self.model, timeout))

    def signature(self, name):
        """`Signature` of that name."""
        if name not in self._signatures:
            self._signatures = self.metadata().signatures
        if name not in self._signatures:
            raise InputError(f"signature: expected one of {sorted(self._signatures)}. Received: {name!r}")
        return self._signatures[name]

    def predict(self, signature, inputs):
        """Runs a signature on B rows.

        Args:
            signature: its name.
            inputs: `{name: array or list}` with B rows each; strings as a list or object array of bytes.

        Returns:
            `{name: array}` with B rows each; strings as object arrays of bytes.
        """
        arrays = check_inputs(inputs, self.signature(signature).inputs)
        return self._send(lambda timeout: self._transport.predict(self.model, signature, arrays, timeout))

    # The methods below take B rows. `seeds` are integers [B]; `temperature`, a factor on the scale of each draw, and
    # `alpha` are one number or [B]; image files are a list of B PNG or JPEG files as bytes. Images come as
    # {"image": uint8 [B, H, W, C], "png_bytes": [B]}. The KL is in nats.

    def sample(self, seeds, temperature):
        """Samples of the prior; an image depends only on its seed and temperature."""
        return self.predict("sample", {"seed": seeds, "temperature": _spread(temperature, seeds)})

    def decode(self, noise, temperature):
        """`{"likelihood_params": float32 [B, Hp, Wp, P], "mean_image": float32 [B, H, W, C]}` for given noise.

        Args:
            noise: list of float32 [B, h, w, c], one for each group in generation order.
            temperature: one number or [B].
        """
        names = sorted(name for name in self.signature("decode").inputs if name.startswith("noise_"))
        if len(noise) != len(names):
            raise InputError(f"noise: expected {len(names)} arrays, one for each group. Received: {len(noise)}")
        inputs = dict(zip(names, noise, strict=True))
        return self.predict("decode", {**inputs, "temperature": _spread(temperature, noise[0])})

    def encode(self, images):
        """`{"latent_00": ..., "noise_00": ..., "kl_per_group": float32 [B, G]}` of images.

        Args:
            images: image files, uint8 [B, H, W, C], or floats [B, H, W, C] in [0, 1].
        """
        kind = getattr(getattr(images, "dtype", None), "kind", "O")
        if kind in "OSU":
            return self.predict("encode", {"image_bytes": images})
        return self.predict("encode_floats" if kind == "f" else "encode_pixels", {"image": images})

    def reconstruct(self, images, seeds, temperature):
        """Reconstructs image files from a sample of their posteriors."""
        inputs = {"image_bytes": images, "seed": seeds, "temperature": _spread(temperature, images)}
        return self.predict("reconstruct", inputs)

    def interpolate(self, images_a, images_b, alpha):
        """Images between image files, through the latents, from the first at alpha 0 to the second at 1."""
        inputs = {"image_bytes_a": images_a, "image_bytes_b": images_b, "alpha": _spread(alpha, images_a)}
        return self.predict("interpolate", inputs)

    def interpolate_seeds(self, seeds_a, seeds_b, alpha, temperature):
        """Images between the samples of seeds, from the first at alpha 0 to the second at 1."""
        inputs = {"seed_a": seeds_a, "seed_b": seeds_b, "alpha": _spread(alpha, seeds_a)}
        return self.predict("interpolate_seeds", {**inputs, "temperature": _spread(temperature, seeds_a)})

    def score(self, images, seeds):
        """`{"nelbo": [B] in nats, "bits_per_dim": [B], "kl_per_group": [B, G]}` of uint8 images [B, H, W, C].

        The seeds are those of the draw from the posterior.
        """
        return self.predict("score", {"image": images, "seed": seeds})

    def _send(self, request):
        deadline = time.monotonic() + self._timeout
        for attempt in range(self._max_retries + 1):
            try:
                return request(max(deadline - time.monotonic(), 0.001))
            except ServerError as error:
                wait = min(_FIRST_WAIT_SECONDS * 2**attempt, _LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
                last = attempt == self._max_retries or time.monotonic() + wait >= deadline
                if error.code != "UNAVAILABLE" or last:
                    raise
            time.sleep(wait)


def _spread(value, rows):
    """One number repeated for every row; any other value unchanged."""
    if not isinstance(value, numbers.Real):
        return value
    return np.full(len(rows) if hasattr(rows, "__len__") else 1, value, np.float32)
