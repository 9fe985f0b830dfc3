"""Exported decoders, the page served with them, and a browser that looks at it."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.export.tflite import host_sampler
from nvae_tf.export.tflite.export import export_tflite
from nvae_tf.models.pixels import crop_padding
from tests import tiny

_REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
_WEB = _REPOSITORY / "tools" / "web"
_SCRIPT = pathlib.Path(__file__).with_name("browser.mjs")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The browser can reach only this computer, whatever requests it makes on its own.
_QUIET = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage --disable-sync
--disable-background-networking --disable-component-update --disable-features=AutofillServerCommunication""".split()
_QUIET += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
_TEMPERATURE = 0.75


class Decoder:
    """A Keras model and its export in `folder`."""

    def __init__(self, folder, nvae):
        self.folder, self._nvae = folder, nvae
        export_tflite(nvae, folder, {"run": {"step": 1234, "checkpoint_sha256": None}}, temperature=_TEMPERATURE)

    def noise(self, seed, index):
        """One image's noise by the Python host sampler, a list of arrays."""
        return host_sampler.latent_noise(self._nvae.noise_shapes(1), seed, index)

    def pictures(self, rows, temperature, seeds=None):
        """uint8 [N, h, w, C] from lists of noise: the mean images; draws where there are (seed, index) for each."""
        config = self._nvae.model_config
        noise = [tf.concat(group, axis=0) for group in zip(*rows, strict=True)]
        params = self._nvae.generate(noise, temperature=temperature).numpy()
        kind = config.likelihood, config.image_channels
        images = [
            host_sampler.draw_image(row, *kind, *seeds[i]) if seeds else host_sampler.mean_image(row, *kind)
            for i, row in enumerate(params[:, np.newaxis])
        ]
        return to_uint8(crop_padding(np.concatenate(images), config.padding))


def _tiny_model(**fields):
    """`NVAE` with two groups of latents and pictures that differ."""
    nvae = tiny.model(groups_per_scale=1, adaptive_groups=False, encoder_channels=2, **fields)
    head = nvae.decoder.likelihood_head.log_norm
    head.assign(head + 2.0)
    return nvae


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Function that exports an `NVAE`: a `Decoder`."""
    return lambda nvae: Decoder(tmp_path_factory.mktemp("decoder") / "export", nvae)


@pytest.fixture(scope="module")
def decoders(export):
    """{likelihood: `Decoder`}."""
    mixture = _tiny_model(image_channels=3, likelihood="logistic_mixture", num_mixtures=2)
    return {"bernoulli": export(_tiny_model(padding=2)), "logistic_mixture": export(mixture)}


@pytest.fixture(scope="module")
def naive(decoders, tmp_path_factory):
    """Folder like the Bernoulli decoder's, whose decoder has an operation that no delegate supports."""
    folder = shutil.copytree(decoders["bernoulli"].folder, tmp_path_factory.mktemp("naive") / "export")
    inputs = json.loads((folder / "decoder.json").read_text())["inputs"]
    module, specs = tf.Module(), {one["name"]: tf.TensorSpec(one["shape"], name=one["name"]) for one in inputs}

    @tf.function(input_signature=[specs])
    def sample(tensors):
        total = tf.add_n([tf.reduce_sum(tensor) for tensor in tensors.values()])
        return {"likelihood_params": tf.cumsum(total * tf.ones([1, 16, 16, 1]), axis=1)}

    module.sample = sample
    saved = str(tmp_path_factory.mktemp("saved_model"))
    tf.saved_model.save(module, saved, signatures={"sample": sample})
    converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["sample"])
    (folder / "decoder_float32.tflite").write_bytes(converter.convert())
    return folder


@pytest.fixture(scope="session")
def serve():
    """Function that returns a context with the address of the page for the model in a folder."""

    @contextlib.contextmanager
    def served(model_dir):
        command = [sys.executable, _REPOSITORY / "tools" / "serve_page.py", f"--model_dir={model_dir}", "--port=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                line = server.stdout.readline()
                assert line.startswith("serving: "), line
                yield line.split()[1]
            finally:
                server.terminate()

    return served


def _needs(reason):
    if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
        pytest.fail(f"{reason} (NVAE_REQUIRE_SHARED=1 forbids skipping)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node():
    """Path of node, which runs the page's modules."""
    return shutil.which("node") or _needs("no node (Debian: apt-get install nodejs npm)")


@pytest.fixture(scope="session")
def visit(node, tmp_path_factory):
    """Function that takes steps, each (name, address, act of browser.mjs), in one browser; returns what was seen."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        _needs(f"no browser, one of {', '.join(_BROWSERS)} (Debian: apt-get install chromium)")
    if not (_WEB / "node_modules" / "playwright-core").is_dir():
        _needs(f"no {_WEB / 'node_modules'} (npm ci --prefix {_WEB})")

    def run(flags, *steps):
        options = {
            "node_modules": str(_WEB / "node_modules"),
            "browser": browser,
            "profile": str(tmp_path_factory.mktemp("profile")),
            "screenshots": str(tmp_path_factory.mktemp("screenshots")),
            "flags": [*_QUIET, *flags],
            "steps": [dict(zip(("name", "url", "act"), step, strict=True)) for step in steps],
        }
        done = subprocess.run([node, _SCRIPT, json.dumps(options)], capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"screenshots": pathlib.Path(options["screenshots"])}

    return run
