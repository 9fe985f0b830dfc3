"""The files that TensorFlow Serving is started with, beside the versions of a model."""

import os
import pathlib
import re
import uuid

_TEMPLATES = pathlib.Path(__file__).parent / "server_templates"
_BATCHING, _MODELS = "batching_parameters.txt", "models.config"
_BATCH_THREADS = 4  # batches that run at once, and the processors that a pod asks for them
# What the server is started with everywhere; the image's own start adds the two ports.
_FLAGS = (
    "--model_config_file=/models/{name}/models.config",
    "--model_config_file_poll_wait_seconds=10",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_batching=true",
    "--batching_parameters_file=/models/{name}/batching_parameters.txt",
    "--monitoring_config_file=/models/{name}/monitoring.config",
    "--rest_api_timeout_in_ms=60000",
)


def check(base_dir, name, batch_sizes):
    """Refuses what the server's files cannot be written for.

    Args:
        base_dir: `pathlib.Path` of the model's folder; it need not exist.
        name: of the model for the server: lower-case letters, digits and `-`, as Kubernetes asks for.
        batch_sizes: ascending, as the server may run.

    Raises:
        ValueError: a name or sizes that no server takes, or others than in the files that are there, which are for all
            versions.
    """
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError(f"name: expected lower-case letters, digits and -, a letter first. Received: {name!r}")
    sizes = list(batch_sizes)
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError(f"batch_sizes: expected ascending numbers from 1 on. Received: {sizes}")
    found = _read(base_dir / _MODELS, r'^\s*name\s*:\s*"(.*)"')
    if found and name not in found:
        raise ValueError(f"name: expected {' or '.join(found)}, as in {base_dir / _MODELS}. Received: {name}")
    found = [int(size) for size in _read(base_dir / _BATCHING, r"^\s*allowed_batch_sizes\s*:\s*(\d+)")]
    if found and found != sizes:
        path = base_dir / _BATCHING
        raise ValueError(f"batch_sizes: expected {found}, as in {path}, which all versions share. Received: {sizes}")


def _read(path, pattern):
    """What a pattern finds in the lines of a file; nothing where there is no file."""
    return re.findall(pattern, path.read_text(), re.MULTILINE) if path.exists() else []


def write(base_dir, name, batch_sizes):
    """Writes the files that are not there yet; those that are may have been edited.

    Args:
        base_dir, name, batch_sizes: as of `check`; the folder exists.

    Returns:
        List of the paths written.
    """
    written = []
    for template in sorted(_TEMPLATES.iterdir()):
        path = base_dir / template.name
        if not path.exists():
            # A name of its own, for two exports may begin at once.
            temporary = base_dir / f"tmp_{uuid.uuid4().hex}"
            temporary.write_text(_filled(template.read_text(), name, batch_sizes))
            temporary.chmod(0o755 if path.suffix == ".sh" else 0o644)
            os.replace(temporary, path)
            written.append(path)
    return written


def _filled(text, name, batch_sizes):
    """A template with its values; a line with @FLAG@ or @BATCH_SIZE@ comes once for each."""
    flags = [flag.format(name=name) for flag in _FLAGS]
    lines = []
    for line in text.splitlines():
        if "@FLAG@" in line:
            lines += [line.replace("@FLAG@", flag) for flag in flags]
        elif "@BATCH_SIZE@" in line:
            lines += [line.replace("@BATCH_SIZE@", str(size)) for size in batch_sizes]
        else:
            values = {"@NAME@": name, "@LARGEST@": str(batch_sizes[-1]), "@BATCH_THREADS@": str(_BATCH_THREADS)}
            for place, value in values.items():
                line = line.replace(place, value)
            lines.append(line)
    return "\n".join(lines) + "\n"
