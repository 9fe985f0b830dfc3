"""The requests on saved_models/README.md, as they stand there, against the stand-in."""

import base64
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

_PAGE = (pathlib.Path(__file__).resolve().parents[2] / "saved_models" / "README.md").read_text()
# Every answer on a line of its own.
_CURL = 'set -eo pipefail; curl() { command curl "$@"; echo; }\n'
_PATHS = {"": {}, "/versions/1": {"version": 1}, "/labels/stable": {"label": "stable"}}


def _run(stand_in, folder, *command):
    command = [part.replace("localhost:8501", f"127.0.0.1:{stand_in.rest_port}") for part in command]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def _png(stand_in, seeds, **which):
    """The first PNG file that gRPC gives for seeds."""
    inputs = {"seed": np.array(seeds), "temperature": np.full(len(seeds), 0.7, np.float32)}
    return stand_in.predict("sample", inputs, **which)["png_bytes"][0]


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "jq"))), reason="no bash, curl or jq")
@pytest.mark.parametrize("path", _PATHS)
def test_curl_asks_every_signature(stand_in, tmp_path, path):
    for name in "ab":
        PIL.Image.effect_noise((8, 8), 50).save(tmp_path / f"{name}.png")
    blocks = [block for block in re.findall(r"```\n(.*?)```", _PAGE, re.DOTALL) if "curl" in block]
    text = "".join(blocks).replace("nvae:predict", f"nvae{path}:predict")
    status, metadata, *answers = map(json.loads, _run(stand_in, tmp_path, "bash", "-c", _CURL + text).splitlines())
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    asked = re.findall(r'signature_name"?: "(\w+)"', text)
    assert {*asked, "serving_default"} == {name for name in signatures if not name.startswith("__")}
    for name in ("encode", "sample"):  # whose answers are kept in files
        answers.insert(3 + asked.index(name), json.loads((tmp_path / f"{name}d.json").read_text()))
    for name, answer in zip(["sample"] * 3 + asked, answers, strict=True):
        given = answer["predictions"][0] if "predictions" in answer else answer["outputs"]
        assert set(given) == set(signatures[name]["outputs"]), name
    files = [base64.b64decode(answer["predictions"][0]["png_bytes"]["b64"]) for answer in answers[:3]]
    assert files == [_png(stand_in, [1], **_PATHS[path])] * 3
    assert (tmp_path / "sample.png").read_bytes() == _png(stand_in, [1, 2])


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_javascript_keeps_all_digits_of_a_seed(stand_in, tmp_path):
    (block,) = re.findall(r"```js\n(.*?)```", _PAGE, re.DOTALL)
    printed = _run(stand_in, tmp_path, "node", "--input-type=module", "-e", f"{block}\nconsole.log(png)")
    assert base64.b64decode(printed) == _png(stand_in, [2**53 + 1])
