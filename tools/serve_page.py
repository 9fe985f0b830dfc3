r"""Serves a page that draws from an exported decoder in the browser, with LiteRT.js on the CPU or through WebGPU.

    npm ci --prefix tools/web
    python tools/serve_page.py
    python tools/serve_page.py --run_dir=runs/mnist
    python tools/serve_page.py --model_dir=exported/mnist --model_dir=exported/faces

MODEL_DIR is a folder written by `tools/export.py --format=tflite`. A run is exported once, into ~/.cache/nvae_tf.
Without either the page has the models that ship with it, and of several models one is chosen in the page. The server
listens on 127.0.0.1 only and serves only the files of the page, of LiteRT.js and of the models; the page's policy
forbids requests to other hosts.
"""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import pathlib
import re
import urllib.parse

from absl import flags

import nvae_tf
from nvae_tf.files import check_writable, file_sum
from tools.flags import SHIPPED_RUN, define_paths, run

FLAGS = flags.FLAGS

define_paths("model_dir", "Folder with decoder.json and the .tflite that it names; may be given several times.")
define_paths("run_dir", "Run folder whose model is exported, with its latest checkpoint; may be given several times.")
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


def chosen_runs():
    """The folders that --run_dir names; without any model those that ship with the programs, which is said.

    Raises ValueError if one of them is not the run of an NVAE, before any is exported.
    """
    if FLAGS.run_dir or FLAGS.model_dir:
        for run_dir in FLAGS.run_dir or []:
            _check_run(run_dir)
        return FLAGS.run_dir or []
    runs = [run for run in (SHIPPED_RUN, SHIPPED_RUN.with_name("emoji")) if (run / "config.json").is_file()]
    if not runs:
        raise ValueError(f"--model_dir or --run_dir: expected one, because {SHIPPED_RUN} is not there. Received: none")
    print("no model is given:", *(f"--run_dir={run}" for run in runs), flush=True)
    return runs


def _check_run(run_dir):
    from nvae_tf.checkpoint import RunFolder
    from nvae_tf.runs.families import require_folding

    if not (pathlib.Path(run_dir) / "config.json").is_file():
        raise ValueError(f"--run_dir: expected a run folder with config.json. Received: {run_dir}")
    require_folding(RunFolder(run_dir).config, "--run_dir")


def exported(run_dir):
    """Folder with the exported decoder of a run, in the cache; its name is that of the run.

    The statistics that were readjusted for the lowest temperature, if there are any, and that temperature are used.
    """
    from nvae_tf.checkpoint import RunFolder
    from nvae_tf.runs.data import default_cache_dir

    source, digest = pathlib.Path(run_dir).resolve(), hashlib.sha256(nvae_tf.__version__.encode())
    step = RunFolder(source).resolve_step()
    checkpoint = RunFolder(source).step_folder(step)
    for path in [source / "config.json", *sorted(checkpoint.iterdir())]:
        digest.update(f"{path.relative_to(source)} {file_sum(path)}".encode())
    folder = default_cache_dir() / "exported" / digest.hexdigest()[:16] / source.name
    if not folder.exists():
        check_writable(folder)
        print(f"exporting {source} to {folder}", flush=True)
        from nvae_tf.checkpoint.statistics import list_temperatures
        from nvae_tf.export.tflite.export import export_tflite
        from nvae_tf.runs.load import load_run
        from nvae_tf.runs.provenance import provenance

        nvae = load_run(source, step)
        temperature = min(list_temperatures(checkpoint, nvae.averaged), default=None)
        if temperature:
            nvae = load_run(source, step, batch_norm_temperature=temperature)
        export_tflite(nvae, folder, provenance(source, nvae, temperature), temperature=temperature or 1.0)
    return folder


def model_files(model_dirs):
    """{path of the request: file} of the models, numbered from 0, and /models.json with their names."""
    files = {"/models.json": json.dumps([pathlib.Path(folder).resolve().name for folder in model_dirs]).encode()}
    for number, folder in enumerate(model_dirs):
        files |= {f"/model/{number}/{path.name}": path for path in _files_of(folder)}
    return files


def _files_of(model_dir):
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
    return sidecar, decoder, golden


def content_policy(page):
    """Content-Security-Policy of the page, given the text of index.html: it may send requests to this server only."""
    import_map = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; style-src 'self'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class PageServer(http.server.ThreadingHTTPServer):
    """Server of {path of the request: file, or bytes of JSON} on 127.0.0.1; other paths are not found."""

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
        return str(self._found(path))

    def _found(self, path):
        return self.server.files.get(urllib.parse.urlsplit(path).path, "/no such file")

    def send_head(self):
        content = self._found(self.path)
        if not isinstance(content, bytes):
            return super().send_head()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

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
    page = page_files()
    files = page | model_files([*(FLAGS.model_dir or []), *map(exported, chosen_runs())])
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
