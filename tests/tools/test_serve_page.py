"""tools/serve_page.py without a browser or LiteRT.js: a folder that looks like tools/web stands in for it."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import threading

import pytest

from nvae_tf.checkpoint.statistics import save_statistics
from nvae_tf.evaluation.readjust import statistics_variables
from nvae_tf.runs.load import load_run

_WEB = pathlib.Path(__file__).resolve().parents[2] / "tools" / "web"
_SECRET = "not to be served"


@pytest.fixture
def web(tmp_path):
    """tools/web, with stand-ins for the packages, and files beside it that are not to be served."""
    web = shutil.copytree(_WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules"))
    for package in json.loads((web / "package.json").read_text())["dependencies"]:
        folder = web / "node_modules" / package
        for name in ("dist/index.js", "dist/index.d.ts", "wasm/litert.js", "wasm/litert.wasm"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    (tmp_path / "secret.js").write_text(_SECRET)
    (web / "node_modules" / "secret.js").write_text(_SECRET)
    return web


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    names = {"files": {"float32": "decoder_float32.tflite"}, "golden": {"file": "golden.bin"}}
    (folder / "decoder.json").write_text(json.dumps(names))
    (folder / "golden.bin").write_bytes(bytes(8))
    (folder / "decoder_float32.tflite").write_bytes(b"\x1c\0\0\0TFL3 and so on")
    (folder / "secret.bin").write_text(_SECRET)
    return folder


@pytest.fixture
def serve_page(program, web, model_dir, monkeypatch):
    """The program as a module, with that folder for its page."""
    module = program("serve_page", f"--model_dir={model_dir}", "--port=0")
    monkeypatch.setattr(module, "_WEB", web)
    return module


@contextlib.contextmanager
def _answering(module, model_dir):
    """Function that sends one request, (method, path): (status, headers, body)."""
    with module.PageServer(module.page_files() | module.model_files([model_dir, model_dir]), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()

        def ask(path, method="GET"):
            connection = http.client.HTTPConnection(*server.server_address, timeout=10)
            connection.request(method, path)
            response = connection.getresponse()
            answer = response.status, response.headers, response.read()
            connection.close()
            return answer

        try:
            assert server.server_address[0] == "127.0.0.1"
            ask.address = server.server_address
            yield ask
        finally:
            server.shutdown()
            thread.join()


def test_files_have_their_types_and_the_headers(serve_page, model_dir, web):
    types = {
        "/": "text/html",
        "/style.css": "text/css",
        "/page.js?fresh": "text/javascript",
        "/node_modules/@litertjs/core/dist/index.js": "text/javascript",
        "/node_modules/@litertjs/core/wasm/litert.wasm": "application/wasm",
        "/models.json": "application/json",
        "/model/0/decoder.json": "application/json",
        "/model/1/golden.bin": "application/octet-stream",
        "/model/0/decoder_float32.tflite": "application/octet-stream",
    }
    with _answering(serve_page, model_dir) as ask:
        for path, expected in types.items():
            status, headers, body = ask(path)
            assert (status, headers["Content-Type"]) == (200, expected) and len(body) == int(headers["Content-Length"])
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert headers["Content-Security-Policy"].startswith(
                "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
            )
        assert body == (model_dir / "decoder_float32.tflite").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.js",
        "/%2e%2e/secret.js",
        "/model/0/../../secret.js",
        "//secret.js",
        "/model/0/secret.bin",
        "/model/2/golden.bin",
        "/node_modules/secret.js",
        "/node_modules/@litertjs/core/dist/index.d.ts",
        "/package.json",
        "/index.html/",
        "/model/",
    ],
)
def test_no_other_file_is_served(serve_page, model_dir, path):
    with _answering(serve_page, model_dir) as ask:
        status, _, body = ask(path)
        assert status == 404 and _SECRET.encode() not in body
        assert ask("/", "POST")[0] == 501


def test_a_browser_may_leave_before_it_has_a_file(serve_page, model_dir, capsys):
    os.truncate(model_dir / "golden.bin", 2**26)
    with _answering(serve_page, model_dir) as ask:
        with socket.create_connection(ask.address) as browser:
            browser.sendall(b"GET /model/0/golden.bin HTTP/1.0\r\n\r\n")
            assert browser.recv(12) == b"HTTP/1.0 200"
        assert ask("/")[0] == 200
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"files": {"float32": "../secret.js"}, "golden": {"file": "golden.bin"}}',
        '{"files": {"float32": "missing.tflite"}, "golden": {"file": "golden.bin"}}',
    ],
)
def test_a_wrong_model_ends_it_before_it_starts(serve_page, model_dir, content):
    path = model_dir / "decoder.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match="--model_dir: expected a folder with decoder.json, written by tools/export"):
        serve_page.main()


def test_a_run_is_exported_once_into_the_cache(program, digits_run, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run_dir = shutil.copytree(digits_run, tmp_path / "run")
    nvae = load_run(run_dir)
    arrays = {name: variable.numpy() for name, variable in statistics_variables(nvae).items()}
    save_statistics(run_dir / "checkpoints" / "step_00000003", 0.6, False, arrays)
    module = program("serve_page", f"--run_dir={run_dir}", "--port=0")
    (run,) = module.chosen_runs()
    folder = module.exported(run)
    assert folder.is_relative_to(tmp_path / "nvae_tf") and f"exporting {run_dir} to {folder}" in capsys.readouterr().out
    assert json.loads((folder / "decoder.json").read_text())["temperature"] == 0.6
    assert json.loads(module.model_files([folder])["/models.json"]) == ["run"]
    shutil.copytree(run_dir / "checkpoints" / "step_00000003", run_dir / "checkpoints" / "step_00000001")
    assert module.exported(run) == folder and capsys.readouterr().out == ""
    (run_dir / "checkpoints" / "step_00000003" / "milestone").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", __file__)
    with pytest.raises(OSError, match="expected a folder that can be written to. Received: Not a directory"):
        module.exported(run)


def test_without_a_model_those_that_ship_are_served(program, monkeypatch, tmp_path, capsys):
    module = program("serve_page")
    names = [pathlib.Path(run).name for run in module.chosen_runs()]
    assert names in (["mnist"], ["mnist", "emoji"]) and "saved_models/mnist" in capsys.readouterr().out
    monkeypatch.setattr(module, "SHIPPED_RUN", tmp_path / "mnist")
    with pytest.raises(ValueError, match="--model_dir or --run_dir: expected one, because .*/mnist is not there"):
        module.chosen_runs()


def test_missing_packages_end_it_before_it_starts(serve_page, web):
    shutil.rmtree(web / "node_modules")
    with pytest.raises(ValueError, match=f"expected LiteRT.js. Received: none\nWhat helps: npm ci --prefix {web}"):
        serve_page.main()


def test_a_port_in_use_is_named(serve_page):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serve_page.FLAGS.port = port
        with pytest.raises(ValueError, match=f"--port={port}: expected a free port. Received: Address already in use"):
            serve_page.main()


def test_the_lock_names_no_registry():
    lock = json.loads((_WEB / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"} <= set(packages)
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert package.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/")
