"""The page of tools/web in headless Chromium, served by tools/serve_page.py, against the Python host sampler."""

import contextlib
import re
import shutil
import urllib.parse

import numpy as np
import pytest

from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint
from nvae_tf.models.noise import slerp

_WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
# The controls at first, with the temperature that the export recommends, and after browser.mjs has set them.
_DEFAULTS = {"count": 16, "seed": 0, "temperature": 0.75, "chosen": 0, "kept": 1, "other": 1, "fraction": 0.5}
_DEFAULTS |= {"redraws": 0, "drawn": False}
_SET = {"count": 9, "seed": 2**40 + 1, "temperature": 1.2, "chosen": 2, "other": 4, "fraction": 0.25}


@pytest.fixture(scope="module")
def visited(visit, serve, decoders, naive):
    """What a browser with WebGPU saw of both decoders, and of one that does not run on WebGPU."""
    folders = decoders["bernoulli"].folder, decoders["logistic_mixture"].folder, naive
    with contextlib.ExitStack() as stack:
        bernoulli, mixture, other = (stack.enter_context(serve(folder)) for folder in folders)
        steps = [(act, bernoulli, act) for act in ("everything", "keyboard", "back")]
        return visit(_WEBGPU, *steps, ("mixture", mixture, "accelerators"), ("naive", other, "accelerators"))


@pytest.fixture(scope="module")
def troubled(visit, serve, decoders, tmp_path_factory):
    """What a browser without WebGPU saw: no fault, LiteRT.js missing, other golden numbers, the decoder missing."""
    folder = shutil.copytree(decoders["bernoulli"].folder, tmp_path_factory.mktemp("troubled") / "model")
    golden = np.fromfile(folder / "golden.bin", "<f4")
    (golden * np.float32(1.1)).tofile(folder / "golden.bin")
    with serve(decoders["bernoulli"].folder) as well, serve(folder) as other:
        steps = [
            ("no_webgpu", well, "nothing"),
            ("no_litert", well, "withoutLiteRt"),
            ("other_numbers", other, "touched"),
            ("fewer_groups", well, "fewerGroups"),
            ("no_inputs", well, "withoutInputs"),
        ]
        return visit([], *steps, ("no_model", other, "withoutModel"))


def _expected(decoder, **settings):
    """{part of the page: pictures} that the Python host sampler draws for the settings of the controls."""
    count, seed, temperature, chosen, kept, other, fraction, redraws, drawn = (_DEFAULTS | settings).values()

    def pictures(rows, indices):
        return decoder.pictures(rows, temperature, [(seed, index) for index in indices] if drawn else None)

    coarse, end = decoder.noise(seed, chosen), decoder.noise(seed, other)
    fine = range(1000 + 8 * redraws, 1008 + 8 * redraws)
    between = [slerp([first], [second], [fraction])[0].numpy() for first, second in zip(coarse, end, strict=True)]
    return {
        "samples": pictures([decoder.noise(seed, index) for index in range(count)], range(count)),
        "variations": pictures([[*coarse[:kept], *decoder.noise(seed, index)[kept:]] for index in fine], fine),
        "path": pictures([coarse, between, end], [chosen, chosen, other]),
    }


def _assert_pictures(seen, expected):
    """The page's pictures are those within one level of 255 on 99.9% of pixels."""
    assert seen["problem"] == "" and set(seen["pictures"]) == set(expected)
    for part, pictures in expected.items():
        height, width = pictures[0].shape[:2]
        assert {(picture["height"], picture["width"]) for picture in seen["pictures"][part]} == {(height, width)}
        drawn = np.reshape([picture["bytes"] for picture in seen["pictures"][part]], [-1, height, width, 4])
        assert len(drawn) == len(pictures) and np.all(drawn[..., 3] == 255)
        difference = np.abs(drawn[..., :3] - pictures.astype(int)).max(axis=-1)
        assert np.mean(difference <= 1) >= 0.999, part
        assert np.std(drawn[..., :3], axis=0).mean() > 3  # the pictures differ


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
def test_pictures_equal_those_of_the_python_host_sampler(visited, decoders, moment, accelerator, settings):
    seen = visited["results"]["everything"][moment]
    assert seen["accelerator"] == accelerator
    _assert_pictures(seen, _expected(decoders["bernoulli"], **settings))


@pytest.mark.parametrize("moment", ["wasm", "webgpu", "drawn"])
def test_pictures_of_a_mixture_equal_those_of_the_python_host_sampler(visited, decoders, moment):
    seen = visited["results"]["mixture"][moment]
    assert seen["accelerator"] == ("wasm" if moment == "wasm" else "webgpu")
    _assert_pictures(seen, _expected(decoders["logistic_mixture"], count=4, drawn=moment == "drawn"))


def test_the_page_starts_again_after_back(visited, decoders):
    before, after = (visited["results"]["back"][moment] for moment in ("webgpu", "back"))
    assert (before["accelerator"], after["accelerator"]) == ("webgpu", "wasm")
    _assert_pictures(after, _expected(decoders["bernoulli"]))


@pytest.mark.slow
def test_digits_of_a_trained_model(visit, serve, export, golden):
    pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")
    checkpoint = read_checkpoint(golden / "mnist_small_trained.checkpoint.pt")
    decoder = export(model_from_checkpoint(checkpoint))
    with serve(decoder.folder) as address:
        seen = visit(_WEBGPU, ("digits", address, "accelerators"))["results"]["digits"]
    for moment in ("wasm", "webgpu", "drawn"):
        _assert_pictures(seen[moment], _expected(decoder, count=4, kept=3, drawn=moment == "drawn"))


def test_time_and_error_are_shown(visited):
    seen = visited["results"]["everything"]
    for moment, count, place in (("wasm", 16, "CPU (wasm)"), ("webgpu", 9, "GPU (WebGPU)")):
        pattern = rf"{count} pictures, \d.* ms each on the {re.escape(place)}; its numbers are within \de-\d"
        assert re.match(pattern, seen[moment]["status"])


def test_no_requests_go_to_other_computers(visited, troubled):
    for requests in (visited["requests"], troubled["requests"]):
        assert any(address.endswith(".wasm") for address in requests)
        assert {urllib.parse.urlsplit(address).hostname for address in requests} == {"127.0.0.1"}
    assert visited["results"]["everything"]["outlook"]["refused"] == "connect-src"  # the policy would not let it


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
    assert after["values"] == {"temperature": "0.76", "seed": "1", "kept": "2", "fraction": "0.5"}
    expected = _expected(decoders["bernoulli"], seed=1, temperature=0.76, chosen=1, kept=2, other=2)
    expected.pop("variations")
    variations = after["pictures"].pop("variations")
    _assert_pictures(after, expected)
    assert all(picture == after["pictures"]["samples"][1] for picture in variations)  # all groups are kept


def test_fits_a_phone_and_a_desktop(visited):
    outlook = visited["results"]["everything"]["outlook"]
    assert outlook["widths"] == {"desktop": 1280, "phone": 360} and outlook["isolated"]
    for name in ("desktop", "phone", "dark"):
        assert (visited["screenshots"] / f"{name}.png").stat().st_size > 10_000


def test_faults_are_reported(troubled, decoders):
    results = {name: result["opened"] for name, result in troubled["results"].items()}
    without = results["no_webgpu"]
    assert without["webgpuDisabled"] and without["webgpuProblem"].startswith("No WebGPU: this browser ")
    _assert_pictures(without, _expected(decoders["bernoulli"]))
    problems = {name: result["problem"] for name, result in results.items()}
    assert problems["no_litert"].startswith("LiteRT.js could not be loaded: ")
    assert "npm ci --prefix tools/web" in problems["no_litert"]
    assert problems["no_model"].startswith("No model: /model/0/decoder_float32.tflite gave 404 Not Found.")
    assert "tools/serve_page.py --model_dir=DIR" in problems["no_model"]
    assert problems["no_inputs"].startswith("decoder.json: expected inputs, a list of {name, shape} with temperature")
    for name in ("no_litert", "no_model", "no_inputs"):
        assert results[name]["status"] == "" and not results[name]["pictures"]["samples"]
    assert problems["other_numbers"].startswith("The numbers from the CPU (wasm) are not those of the export, by 0.")
    assert troubled["results"]["other_numbers"]["touched"]["problem"] == problems["other_numbers"]


def test_groups_that_are_not_sampled_are_reported(troubled):
    whole, fewer = (troubled["results"][name]["opened"] for name in ("no_webgpu", "fewer_groups"))
    assert whole["facts"].startswith("2 groups of latents, pictures of ") and whole["sameSeed"]
    assert fewer["facts"].startswith("2 of 9 groups of latents are sampled, pictures of ") and not fewer["sameSeed"]
    assert fewer["values"]["temperature"] == "2.02" and fewer["problem"] == ""


def test_a_model_that_webgpu_rejects_stays_on_the_cpu(visited):
    seen = visited["results"]["naive"]["webgpu"]
    assert seen["accelerator"] == "wasm"
    lasting = visited["results"]["naive"]["wasm"]["problem"]  # its numbers are not those of the export
    refusal = "Some operations of this model do not run on WebGPU; tools/check_tflite.py says which."
    assert lasting and seen["problem"] == f"{refusal} {lasting}"
    assert "CPU (wasm)" in seen["status"]  # what was requested is drawn nevertheless
    assert "CPU (wasm)" in visited["results"]["naive"]["drawn"]["status"]


def test_no_script_fails(visited, troubled):
    assert visited["errors"] == troubled["errors"] == []
