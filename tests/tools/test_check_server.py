import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl.flags import IllegalFlagValueError

from tests.serving.toy_model import EXAMPLES, ToyModel, write_card

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def run(served, program, tmp_path):
    """Function that runs the program on the server, with 0.05 s of each load."""
    ports = served[1]
    server = ["--host=127.0.0.1", f"--grpc_port={ports['grpc']}", f"--rest_port={ports['rest']}", "--model=toy"]
    return lambda *flags: program("check_server", *server, "--load_seconds=0.05", *flags).main()


def test_a_correct_server(run, served, tmp_path, capsys):
    card, out = write_card(tmp_path, served[0], {"sample": EXAMPLES["sample"]}), tmp_path / "out.json"
    run(f"--card={card}", "--concurrency=1,2", f"--json={out}")
    first, *lines, written, last = capsys.readouterr().out.splitlines()
    assert first == f"version 3 answers, compared with {card}"
    assert all(line.startswith("PASS  ") for line in lines) and written == f"written: {out}"
    assert last == f"meets the TensorFlow Serving contract in all {len(lines)} checks"
    results = json.loads(out.read_text())
    assert results["failed"] == 0 and (results["card"], results["version"]) == (str(card), 3)
    assert [f"PASS  {check['name']}: {check['reason']}" for check in results["checks"]] == lines
    expected = [(protocol, number) for protocol in ("grpc", "rest") for number in (1, 2)]
    assert [(row["protocol"], row["concurrency"]) for row in results["load"]] == expected


@pytest.mark.parametrize("given", ["", "2", "2/assets.extra/model.json", "1/assets.extra/model.json"])
def test_the_card_is_that_of_the_version_that_answers(run, served, tmp_path, capsys, given):
    other = ToyModel()
    other.change = lambda name, outputs: outputs | {"image": outputs["image"] ^ 4}
    for version, model in (("2", other), ("3", served[0])):
        write_card(tmp_path / version / "assets.extra", model, {"sample": EXAMPLES["sample"]})
    run(f"--card={tmp_path / given}", "--concurrency=")
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"version 3 answers, compared with {tmp_path / '3' / 'assets.extra' / 'model.json'}"
    (tmp_path / "3").rename(tmp_path / "incoming")
    with pytest.raises(ValueError, match=r"card: expected the card of version 3, .*/3/assets.extra/model.json, or a"):
        run(f"--card={tmp_path / given}")


def test_failures_are_in_the_exit_status(run, served, tmp_path, monkeypatch, capsys):
    card, out = write_card(tmp_path, served[0], {"sample": EXAMPLES["sample"]}), tmp_path / "out.json"

    def change(name, outputs):
        return outputs | {"image": outputs["image"] ^ 4} if "image" in outputs else outputs

    monkeypatch.setattr(served[0], "change", change)
    with pytest.raises(SystemExit, match=r"^check_server.py: 4 of \d+ checks failed$"):
        run(f"--card={card}", "--concurrency=", f"--json={out}")
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert failed[0] == "FAIL  grpc: golden answer of sample: image: 100.00% of the values differ, by up to 4 levels"
    results = json.loads(out.read_text())
    assert results["failed"] == 4 and not results["load"]


def test_no_server(program, capsys):
    tool = program("check_server", "--host=127.0.0.1", "--grpc_port=1", "--timeout=2")
    with pytest.raises(SystemExit, match=r"^check_server.py: 4 of 4 checks failed$"):
        tool.main()
    output = capsys.readouterr().out
    assert "FAIL  grpc: status: grpc://127.0.0.1:1, model nvae: UNAVAILABLE (nothing answers there" in output
    assert "sample gets no answer: nothing else is checked" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "expected --grpc_port, --rest_port or both"),
        (["--rest_port=1", "--concurrency=0"], "expected whole numbers from 1 to 1024"),
        (["--rest_port=1", "--load_seconds=0"], "--concurrency= leaves the load checks out"),
        (["--rest_port=1", "--json=none/x.json"], "expected a name ending in .json in an existing folder"),
        (["--rest_port=1", "--version=1", "--label=stable"], "version"),
    ],
    ids=["no port", "concurrency", "load", "json", "version and label"],
)
def test_wrong_flags(program, flags, message):
    with pytest.raises(IllegalFlagValueError, match=message):
        program("check_server", *flags)


def test_rest_needs_no_tensorflow(served, tmp_path):
    """A machine that only asks needs neither TensorFlow nor gRPC."""
    for name in ("tensorflow", "grpc"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name}')")
    command = [sys.executable, str(_REPOSITORY / "tools" / "check_server.py"), "--host=127.0.0.1", "--model=toy"]
    command += [f"--rest_port={served[1]['rest']}", "--concurrency="]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{_REPOSITORY}"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "meets the TensorFlow Serving contract in all" in result.stdout
