"""The page of tools/web in headless Chromium, served by tools/serve_page.py, against the Python host sampler."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation.interpolation import slerp
from nvae_tf.export import host_sampler

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_WEB = _REPOSITORY / "tools" / "web"
_SCRIPT = pathlib.Path(__file__).with_name("web_browser.mjs")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Nothing but this computer can be reached, whatever the browser itself would ask for.
_QUIET = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage --disable-sync
--disable-background-networking --disable-component-update --disable-features=AutofillServerCommunication""".split()
_QUIET += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
_WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]


class _Decoder:
    """A small decoder of two groups with random kernels, as a TensorFlow function and as an exported folder."""

    noise_shapes = [[1, 4, 4, 2], [1, 8, 8, 2]]

    def __init__(self, folder, likelihood, channels, num_params, padding):
        self.folder, self.likelihood, self.channels, self.padding = folder, likelihood, channels, padding
        rng = np.random.default_rng(1)
        shapes = [[3, 3, 2, 8], [3, 3, 2, 8], [3, 3, 8, 8], [3, 3, 8, num_params]]
        coarse, fine, both, head = (
            tf.constant(rng.normal(scale=2.0 / np.sqrt(np.prod(shape[:-1])), size=shape), tf.float32)
            for shape in shapes
        )

        def sample(noise_00, noise_01, temperature):
            scale = tf.reshape(temperature, [1, 1, 1, 1])
            hidden = tf.image.resize(tf.nn.conv2d(scale * noise_00, coarse, 1, "SAME"), [8, 8], "nearest")
            hidden = tf.nn.elu(hidden + tf.nn.conv2d(scale * noise_01, fine, 1, "SAME"))
            hidden = tf.image.resize(tf.nn.elu(tf.nn.conv2d(hidden, both, 1, "SAME")), [16, 16], "nearest")
            return {"likelihood_params": tf.nn.conv2d(hidden, head, 1, "SAME")}

        names = ("noise_00", "noise_01", "temperature")
        self._specs = [
            tf.TensorSpec(shape, name=name) for name, shape in zip(names, [*self.noise_shapes, [1]], strict=True)
        ]
        self._module = tf.Module()
        self._module.sample = tf.function(sample, input_signature=self._specs)

    def write(self, saved_model):
        """Writes decoder.json and decoder_float32.tflite."""
        tf.saved_model.save(self._module, str(saved_model), signatures={"sample": self._module.sample})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["sample"])
        (self.folder / "decoder_float32.tflite").write_bytes(converter.convert())
        sidecar = {
            "signature": "sample",
            "files": {"float32": "decoder_float32.tflite"},
            # Inputs come in no order that can be relied on.
            "inputs": [{"name": spec.name, "shape": spec.shape.as_list()} for spec in self._specs],
            "image": {
                "height": 16 - 2 * self.padding,
                "width": 16 - 2 * self.padding,
                "channels": self.channels,
                "padding": self.padding,
            },
            "likelihood": {"kind": self.likelihood, "num_mixtures": 2},
            "temperature": 0.75,
            "checkpoint": {"step": 1234},
        }
        (self.folder / "decoder.json").write_text(json.dumps(sidecar))

    def noise(self, seed, index):
        return host_sampler.latent_noise(self.noise_shapes, seed, index)

    def picture(self, noise, temperature, seed=None, index=None):
        """uint8 [h, w, C]: the mean, or a draw where there is a seed."""
        params = self._module.sample(*map(tf.constant, noise), tf.constant([temperature]))["likelihood_params"].numpy()
        if seed is None:
            image = host_sampler.mean_image(params, self.likelihood, self.channels)
        else:
            image = host_sampler.draw_image(params, self.likelihood, self.channels, seed, index)
        return host_sampler.to_uint8(host_sampler.crop_padding(image, self.padding))[0]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """{likelihood: `_Decoder`}, written."""
    made = {}
    for arguments in (("bernoulli", 1, 1, 2), ("logistic_mixture", 3, 20, 0)):
        decoder = made[arguments[0]] = _Decoder(tmp_path_factory.mktemp(arguments[0]), *arguments)
        decoder.write(tmp_path_factory.mktemp("saved_model"))
    return made


@contextlib.contextmanager
def _served(model_dir):
    """Address of the page with that model."""
    command = [sys.executable, _REPOSITORY / "tools" / "serve_page.py", f"--model_dir={model_dir}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith("serving: "), line
            yield line.split()[1]
        finally:
            server.terminate()


def _needs(reason):
    if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
        pytest.fail(f"{reason} (NVAE_REQUIRE_SHARED=1 forbids skipping)")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Function that takes steps, each (name, address, act), in one browser; what it saw."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None or shutil.which("node") is None:
        _needs(f"no node, or none of {', '.join(_BROWSERS)} (Debian: apt-get install nodejs npm chromium)")
    if not (_WEB / "node_modules" / "playwright-core").is_dir():
        _needs(f"no {_WEB / 'node_modules'}: npm ci --prefix {_WEB}")

    def run(flags, *steps):
        options = {
            "node_modules": str(_WEB / "node_modules"),
            "browser": browser,
            "profile": str(tmp_path_factory.mktemp("profile")),
            "screenshots": str(tmp_path_factory.mktemp("screenshots")),
            "flags": [*_QUIET, *flags],
            "steps": [dict(zip(("name", "url", "act"), step, strict=True)) for step in steps],
        }
        done = subprocess.run(["node", _SCRIPT, json.dumps(options)], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"screenshots": pathlib.Path(options["screenshots"])}

    return run


@pytest.fixture(scope="module")
def visited(visit, decoders):
    """What a browser with WebGPU saw of both decoders."""
    with _served(decoders["bernoulli"].folder) as bernoulli, _served(decoders["logistic_mixture"].folder) as mixture:
        steps = [("everything", bernoulli), ("keyboard", bernoulli), ("outlook", bernoulli), ("mixture", mixture)]
        return visit(_WEBGPU, *((name, address, name) for name, address in steps))


@pytest.fixture(scope="module")
def troubled(visit, decoders, tmp_path_factory):
    """What a browser without WebGPU saw of a decoder, of one whose file is gone, and with LiteRT.js gone."""
    folder = shutil.copytree(decoders["bernoulli"].folder, tmp_path_factory.mktemp("gone") / "model")
    with _served(decoders["bernoulli"].folder) as there, _served(folder) as gone:
        (folder / "decoder_float32.tflite").unlink()
        steps = [("no_webgpu", there, "nothing"), ("no_model", gone, "nothing"), ("no_litert", there, "withoutLiteRt")]
        return visit([], *steps)


_DEFAULTS = {"count": 16, "seed": 0, "temperature": 0.75, "chosen": 0, "kept": 1, "other": 1, "fraction": 0.5}
_DEFAULTS |= {"redraws": 0, "drawn": False}
_SET = {"count": 9, "seed": 2**40 + 1, "temperature": 1.2, "chosen": 2, "other": 4, "fraction": 0.25}


def _expected(decoder, **settings):
    """{part of the page: pictures} that the Python host sampler draws for what the controls say."""
    count, seed, temperature, chosen, kept, other, fraction, redraws, drawn = (_DEFAULTS | settings).values()

    def picture(noise, index):
        return decoder.picture(noise, temperature, *([seed, index] if drawn else []))

    coarse, end = decoder.noise(seed, chosen), decoder.noise(seed, other)
    fine = range(1000 + 8 * redraws, 1008 + 8 * redraws)
    between = [slerp(first, second, [fraction])[0] for first, second in zip(coarse, end, strict=True)]
    return {
        "samples": [picture(decoder.noise(seed, index), index) for index in range(count)],
        "variations": [picture([*coarse[:kept], *decoder.noise(seed, index)[kept:]], index) for index in fine],
        "path": [picture(coarse, chosen), picture(between, chosen), picture(end, other)],
    }


def _assert_pictures(seen, expected):
    """The page's pictures are those within one level of 255 on 99.9% of pixels."""
    assert seen["problem"] == "" and set(seen["pictures"]) == set(expected)
    for part, pictures in expected.items():
        height, width = pictures[0].shape[:2]
        assert {(picture["height"], picture["width"]) for picture in seen["pictures"][part]} == {(height, width)}
        drawn = np.reshape([picture["bytes"] for picture in seen["pictures"][part]], [-1, height, width, 4])
        assert len(drawn) == len(pictures) and np.all(drawn[..., 3] == 255)
        difference = np.abs(drawn[..., :3] - np.stack(pictures).astype(int)).max(axis=-1)
        assert np.mean(difference <= 1) >= 0.999, part
        assert np.std(drawn[..., :3], axis=0).mean() > 10  # the pictures differ


@pytest.mark.parametrize(
    ("moment", "accelerator", "settings"),
    [
        ("wasm", "wasm", {}),
        ("set", "wasm", _SET),
        ("redrawn", "wasm", {**_SET, "redraws": 1}),
        ("webgpu", "webgpu", {**_SET, "redraws": 1}),
        ("drawn", "webgpu", {**_SET, "redraws": 1, "drawn": True}),
    ],
)
def test_pictures_are_the_python_host_samplers(visited, decoders, moment, accelerator, settings):
    seen = visited["results"]["everything"][moment]
    assert seen["accelerator"] == accelerator
    _assert_pictures(seen, _expected(decoders["bernoulli"], **settings))


@pytest.mark.parametrize(("moment", "drawn"), [("wasm", False), ("webgpu", True)])
def test_pictures_of_a_mixture_are_the_python_host_samplers(visited, decoders, moment, drawn):
    seen = visited["results"]["mixture"][moment]
    assert seen["accelerator"] == moment
    _assert_pictures(seen, _expected(decoders["logistic_mixture"], drawn=drawn))


def test_time_per_picture_is_told(visited):
    seen = visited["results"]["everything"]
    assert "16 pictures, " in seen["wasm"]["status"] and seen["wasm"]["status"].endswith(" ms each on the CPU (wasm).")
    assert "9 pictures, " in seen["webgpu"]["status"] and "GPU (WebGPU)" in seen["webgpu"]["status"]


def test_nothing_is_asked_of_other_computers(visited, troubled):
    for requests in (visited["requests"], troubled["requests"]):
        assert any(address.endswith(".wasm") for address in requests)
        assert {urllib.parse.urlsplit(address).hostname for address in requests} == {"127.0.0.1"}
    assert visited["results"]["outlook"]["outlook"]["refused"] == "connect-src"  # the policy would not let it


def test_every_control_is_reached_by_tab_and_works_by_key(visited, decoders):
    before, after = (visited["results"]["keyboard"][moment] for moment in ("before", "after"))
    controls = [
        "temperature",
        "seed",
        "next-seed",
        "rows",
        "pixels",
        "accelerator",
        "chosen",
        "kept",
        "redraw",
        "other",
    ]
    assert [stop["id"] for stop in before["stops"]] == [*controls, "fraction"]
    assert all(stop["outline"] == "solid" and stop["named"] for stop in before["stops"])
    assert after["values"] == {"temperature": "0.8", "seed": "1", "kept": "2", "fraction": "0.5"}
    expected = _expected(decoders["bernoulli"], seed=1, temperature=0.8, chosen=1, kept=2, other=2)
    expected.pop("variations")
    variations = after["pictures"].pop("variations")
    _assert_pictures(after, expected)
    assert all(picture == after["pictures"]["samples"][1] for picture in variations)  # all groups are kept


def test_fits_a_phone_and_a_desktop(visited):
    outlook = visited["results"]["outlook"]["outlook"]
    assert outlook["widths"] == {"desktop": 1280, "phone": 360} and outlook["isolated"]
    for name in ("desktop", "phone", "dark"):
        assert (visited["screenshots"] / f"{name}.png").stat().st_size > 10_000


def test_what_is_wrong_is_said(troubled, decoders):
    results = {name: result["opened"] for name, result in troubled["results"].items()}
    without = results["no_webgpu"]
    assert without["webgpuDisabled"] and without["webgpuProblem"].startswith("No WebGPU: this browser ")
    _assert_pictures(without, _expected(decoders["bernoulli"]))
    assert results["no_model"]["problem"].startswith("No model: /model/decoder_float32.tflite gave 404 Not Found.")
    assert "tools/serve_page.py --model_dir=DIR" in results["no_model"]["problem"]
    assert results["no_litert"]["problem"].startswith("LiteRT.js could not be loaded: ")
    assert "npm ci --prefix tools/web" in results["no_litert"]["problem"]
    for name in ("no_model", "no_litert"):
        assert results[name]["status"] == "" and not results[name]["pictures"]["samples"]


def test_no_script_fails(visited, troubled):
    assert visited["errors"] == troubled["errors"] == []
