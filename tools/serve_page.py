r"""Serves a page that draws from an exported decoder in the browser, with LiteRT.js on the CPU or through WebGPU.

    npm ci --prefix tools/web
    python tools/serve_page.py --model_dir=exported/mnist

MODEL_DIR is a folder written by `tools/export.py --format=tflite`. The server listens on 127.0.0.1 only and serves only
the files of the page, of LiteRT.js and of the model; the page's policy forbids requests to other hosts.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import urllib.parse

from absl import flags

from tools.flags import define_path, run

FLAGS = flags.FLAGS

define_path("model_dir", None, "Folder with decoder.json and the .tflite that it names.", required=True)
flags.DEFINE_integer("port", 8000, "Port on 127.0.0.1; 0 for a free one.", lower_bound=0, upper_bound=65535)

_WEB = pathlib.Path(__file__).resolve().parent / "web"


def page_files():
    """{path of the request: file} of the page and of LiteRT.js."""
    litert = "node_modules/@litertjs"
    if not (_WEB / litert).is_dir():
        raise ValueError(f"{_WEB / litert}: expected LiteRT.js. Received: none\nWhat helps: npm ci --prefix {_WEB}")
    patterns = ["*.css", "*.js", f"{litert}/*/dist/index.js", f"{litert}/core/wasm/*.js", f"{litert}/core/wasm/*.wasm"]
    found = [path for pattern in patterns for path in _WEB.glob(pattern)]
    return {"/": _WEB / "index.html"} | {f"/{path.relative_to(_WEB).as_posix()}": path for path in found}


def model_files(model_dir):
    """{path of the request: file} of the model."""
    sidecar = pathlib.Path(model_dir) / "decoder.json"
    try:
        content = json.loads(sidecar.read_bytes())
        decoder, golden = map(sidecar.with_name, (content["files"]["float32"], content["golden"]["file"]))
        if missing := [path.name for path in (decoder, golden) if not path.is_file()]:
            raise FileNotFoundError(f"no {missing[0]} in it")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            "--model_dir: expected a folder with decoder.json, written by tools/export.py --format=tflite. "
            f"Received: {model_dir} ({error!r})"
        ) from error
    return {f"/model/{path.name}": path for path in (sidecar, decoder, golden)}


def content_policy(page):
    """Content-Security-Policy of the page, given the text of index.html: it may send requests to this server only."""
    import_map = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; style-src 'self'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class PageServer(http.server.ThreadingHTTPServer):
    """Server of {path of the request: file} on 127.0.0.1; other paths are not found."""

    def __init__(self, files, port):
        self.files = files
        self.headers = {
            "Content-Security-Policy": content_policy(files["/"].read_text(encoding="utf-8")),
            # These two isolate the page, so that WebAssembly may share memory between threads.
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        }
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.SimpleHTTPRequestHandler):
    # The system's table may list other types for these, which a browser would refuse.
    extensions_map = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}

    def translate_path(self, path):
        return str(self.server.files.get(urllib.parse.urlsplit(path).path, "/no such file"))

    def end_headers(self):
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def copyfile(self, source, outputfile):
        # A browser that leaves the page closes the connection before it has its files.
        with contextlib.suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def log_request(self, code="-", size="-"):
        pass  # only errors are logged


def main():
    files = page_files() | model_files(FLAGS.model_dir)
    try:
        server = PageServer(files, FLAGS.port)
    except OSError as error:
        raise ValueError(f"--port={FLAGS.port}: expected a free port. Received: {error.strerror}") from error
    with server:
        print(f"serving: http://127.0.0.1:{server.server_port}/ (Ctrl-C stops it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    run(main)
