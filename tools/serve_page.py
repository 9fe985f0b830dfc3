r"""Serves a page that draws from an exported decoder in the browser, by LiteRT.js on the CPU or through WebGPU.

    npm ci --prefix tools/web
    python tools/serve_page.py --model_dir=saved_models/mnist_tflite

MODEL_DIR is a folder that `tools/export.py --format=tflite` wrote. The server answers on 127.0.0.1 alone, with the
files of the page, of LiteRT.js and of the model and nothing else; the page's policy forbids requests to anywhere else.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import shutil
import sys
import urllib.parse

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder with decoder.json and the .tflite that it names.", required=True)
flags.DEFINE_integer("port", 8000, "Port on 127.0.0.1; 0 for a free one.", lower_bound=0, upper_bound=65535)

_WEB = pathlib.Path(__file__).resolve().parent / "web"
_SIDECAR = "decoder.json"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


def page_files():
    """{path of the request: file} of the page and of LiteRT.js.

    Raises:
        ValueError: LiteRT.js is not installed, or in another version than package.json asks for.
    """
    wanted = json.loads((_WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for package, version in wanted.items():
        path = _WEB / "node_modules" / package / "package.json"
        found = json.loads(path.read_text(encoding="utf-8"))["version"] if path.is_file() else "none"
        if found != version:
            raise ValueError(
                f"{path.parent}: expected {package} {version}. Received: {found}\nWhat helps: npm ci --prefix {_WEB}"
            )
    litert = "node_modules/@litertjs"
    patterns = ["*.css", "*.js", f"{litert}/*/dist/index.js", f"{litert}/core/wasm/*.js", f"{litert}/core/wasm/*.wasm"]
    found = [path for pattern in patterns for path in _WEB.glob(pattern)]
    return {"/": _WEB / "index.html"} | {f"/{path.relative_to(_WEB).as_posix()}": path for path in found}


def model_files(model_dir):
    """{path of the request: file} of the model.

    Raises:
        ValueError: the folder is not one that tools/export.py --format=tflite wrote.
    """
    sidecar = pathlib.Path(model_dir) / _SIDECAR
    if not sidecar.is_file():
        raise ValueError(
            f"--model_dir={model_dir}: expected a folder that tools/export.py --format=tflite wrote, with {_SIDECAR}. "
            f"Received: {'a folder without it' if sidecar.parent.is_dir() else 'no folder'}"
        )
    try:
        content = json.loads(sidecar.read_bytes())
        decoder, golden = map(sidecar.with_name, (content["files"]["float32"], content["golden"]["file"]))
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{sidecar}: expected JSON with the names files.float32 and golden.file. Received: {error!r}"
        ) from error
    for path in (decoder, golden):
        if not path.is_file():
            raise ValueError(f"{sidecar}: expected the files that it names. Received: no {path}")
    with decoder.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(f"{decoder}: expected a TFLite model. Received: a file of another kind")
    return {f"/model/{path.name}": path for path in (sidecar, decoder, golden)}


def content_policy(page):
    """Content-Security-Policy of the page, text of index.html: requests go nowhere but to this server."""
    import_map = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; style-src 'self'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class PageServer(http.server.ThreadingHTTPServer):
    """Server of a fixed set of files on 127.0.0.1.

    Args:
        files: {path of the request: file}; no other path is answered.
        port: 0 for a free one.
    """

    def __init__(self, files, port):
        self.files = files
        self.headers = {
            "Content-Security-Policy": content_policy(files["/"].read_text(encoding="utf-8")),
            # These two isolate the page; with them WebAssembly may share memory between threads.
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        }
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.server.files.get(urllib.parse.urlsplit(self.path).path)
        if path is None or not path.is_file():
            self.send_error(404)
            return
        with path.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Type", _TYPES.get(path.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(path.stat().st_size))
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            # A browser that leaves the page does not wait for its files.
            with contextlib.suppress(ConnectionError):
                shutil.copyfileobj(file, self.wfile)

    def log_request(self, code="-", size="-"):
        pass  # errors are logged, each file of the page is not


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    try:
        server = PageServer(page_files() | model_files(FLAGS.model_dir), FLAGS.port)
    except ValueError as error:
        sys.exit(f"serve_page.py: {error}")
    except OSError as error:
        sys.exit(f"serve_page.py: --port={FLAGS.port}: expected a free port. Received: {error.strerror}")
    with server:
        print(f"serving: http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    app.run(main)
