"""tools/ holds programs, which nothing imports, and the flags that they share."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path for path in (REPOSITORY / "tools").glob("*.py") if path.stem not in ("__init__", "flags"))


def _imported_tools(path):
    """Names of the modules of tools/ that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    stems = {path.stem for path in PROGRAMS}
    return {name for name in names if name.removeprefix("tools.") in stems}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_file_is_a_program_that_no_other_file_imports(path):
    tree = ast.parse(path.read_text())
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    assert ast.unparse(tree.body[-1]).startswith("if __name__ == '__main__':\n    run(main")
    others = [*REPOSITORY.glob("tools/*.py"), *REPOSITORY.glob("nvae_tf/**/*.py")]
    assert not [other for other in others if f"tools.{path.stem}" in _imported_tools(other)]
    assert not [name for name in _imported_tools(path) if "." not in name]


_WITHOUT_TENSORFLOW = """
import json, os, runpy, sys
import numpy, requests  # once for all programs, each of which runs in a fork
failed = []
for command in json.loads(sys.argv[1]):
    if not os.fork():
        sys.argv = command
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit:
            pass
        os._exit(bool({"tensorflow", "tensorflow_probability", "keras", "torch"} & set(sys.modules)))
    if os.wait()[1]:
        failed.append(command)
sys.exit(str(failed) if failed else 0)
"""


def test_help_and_what_needs_no_model_come_without_tensorflow(served, tmp_path):
    rest = served[1]["rest"]
    asked = ["--protocol=rest", f"--port={rest}", "--model=toy"]
    commands = [[f"tools/{path.name}", "--help"] for path in PROGRAMS] + [
        ["tools/client.py", "status", *asked],
        ["tools/client.py", "sample", *asked, "--num=2", f"--out={tmp_path / 'a.png'}"],
        ["tools/check_server.py", f"--rest_port={rest}", "--model=toy", "--concurrency="],
        ["tools/serve_page.py", f"--model_dir={tmp_path}"],
    ]
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ": AVAILABLE" in done.stdout and f"written: {tmp_path / 'a.png'}" in done.stdout


@pytest.mark.parametrize("command", [("tools/train.py",), ("-m", "tools.train")])
def test_program_runs_as_a_file_and_as_a_module(command):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert "Trains a model." in done.stdout and "--run_dir" in done.stdout and "Traceback" not in done.stderr
