"""The files with which TensorFlow Serving is started, beside the versions of a model."""

import importlib.metadata
import os
import pathlib
import re

from nvae_tf.files import LOST_AND_FOUND, TEMPORARY, new_file

_TEMPLATES = pathlib.Path(__file__).parent / "server_templates"
_BATCHING, _MODELS = "batching_parameters.txt", "models.config"
_BATCH_THREADS = 4  # batches that run at once, and processors that a pod requests
# Flags with which every server is started; the image's own entry point adds the two ports.
_FLAGS = (
    "--model_config_file=/models/{name}/models.config",
    "--model_config_file_poll_wait_seconds=10",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    "--batching_parameters_file=/models/{name}/batching_parameters.txt",
    "--monitoring_config_file=/models/{name}/monitoring.config",
    "--rest_api_timeout_in_ms=60000",
)


def takes_versions(base_dir):
    """Whether a path is or may become the folder of a served model: nothing else than an export's files is in it."""
    if not os.path.isdir(base_dir):
        return not os.path.lexists(base_dir)
    names = [name for name in os.listdir(base_dir) if name != LOST_AND_FOUND and not name.startswith(TEMPORARY)]
    return not names or any(name.isdigit() or (_TEMPLATES / name).exists() for name in names)


def check_server_options(base_dir, name, batch_sizes):
    """Raises ValueError for a name or batch sizes that no server accepts, or that differ from the folder's files."""
    # Kubernetes allows no other names.
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError(f"name: expected lower-case letters, digits and -, a letter first. Received: {name!r}")
    sizes = list(batch_sizes)
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError(f"batch_sizes: expected ascending numbers of at least 1. Received: {sizes}")
    found = _find(base_dir / _MODELS, r'^\s*name\s*:\s*"(.*)"')
    if found and name not in found:
        raise ValueError(f"name: expected {' or '.join(found)}, as in {base_dir / _MODELS}. Received: {name}")
    found = [int(size) for size in _find(base_dir / _BATCHING, r"^\s*allowed_batch_sizes\s*:\s*(\d+)")]
    if found and found != sizes:
        path = base_dir / _BATCHING
        raise ValueError(f"batch_sizes: expected {found}, as in {path}, which all versions share. Received: {sizes}")


def _find(path, pattern):
    """Matches of a pattern in the lines of a file; none if the file does not exist."""
    return re.findall(pattern, path.read_text(), re.MULTILINE) if path.exists() else []


def write_server_files(base_dir, name, batch_sizes):
    """Writes the files that are missing and returns their paths; existing ones may have been edited, and are kept."""
    written = []
    for template in sorted(_TEMPLATES.iterdir()):
        path = base_dir / template.name
        if not path.exists():
            with new_file(path) as temporary:
                temporary.write_text(_filled(template.read_text(), name, batch_sizes))
                temporary.chmod(0o755 if path.suffix == ".sh" else 0o644)
            written.append(path)
    return written


def _filled(text, name, batch_sizes):
    """A template with its values; a line with @FLAG@ or @BATCH_SIZE@ is repeated for each of them."""
    values = {
        "@NAME@": name,
        "@LARGEST@": str(batch_sizes[-1]),
        "@BATCH_THREADS@": str(_BATCH_THREADS),
        "@SERVING@": importlib.metadata.version("tensorflow-serving-api"),  # a server's version is that of its API
    }
    for place, value in values.items():
        text = text.replace(place, value)
    repeated = {"@FLAG@": [flag.format(name=name) for flag in _FLAGS], "@BATCH_SIZE@": map(str, batch_sizes)}
    for place, values in repeated.items():
        line = re.search(rf"^.*{place}.*\n", text, re.MULTILINE)
        if line:
            lines = "".join(line[0].replace(place, value) for value in values)
            text = text[: line.start()] + lines + text[line.end() :]
    return text
