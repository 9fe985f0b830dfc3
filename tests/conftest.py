"""Fixtures for all tests, and the environment that must be set before TensorFlow is imported."""

import fcntl
import importlib
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import nvae_tf  # noqa: E402, F401  # isort: skip (it sets what TensorFlow reads when it is imported)
import tensorflow as tf  # noqa: E402

# Two devices for tests with several replicas, which must be configured before TensorFlow does anything.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_SMALL_GOLDEN = REPOSITORY / "tests" / "goldens" / "cifar10_tiny_flow.npz"


def pytest_make_parametrize_id(val, argname):
    """The ids of parametrised tests are names: those of their arguments, numbered, for bytes and for texts.

    Content in an id can differ between the processes of pytest-xdist, which then run nothing.
    """
    is_content = isinstance(val, bytes) or (isinstance(val, str) and not re.fullmatch(r"[\w.:/=+ -]{1,40}", val, re.A))
    return argname if is_content else None


def _shared_folder(name):
    folder = pathlib.Path(os.environ.get("NVAE_SHARED") or REPOSITORY.parent / "shared") / name
    if folder.is_dir():
        return folder
    reason = f"no folder {folder}; set NVAE_SHARED to the folder that holds {name}/"
    if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
        pytest.fail(f"{reason} (NVAE_REQUIRE_SHARED=1 forbids skipping)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data():
    """Folder with the data sets `mnist` and `cifar-10-batches-bin`."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def golden():
    """Folder with reference checkpoints and numbers from the original program."""
    return _shared_folder("golden")


@pytest.fixture(scope="session")
def baselines_golden():
    """Folder with a folder for each of the baselines, of numbers from its original program."""
    return _shared_folder("baselines") / "golden"


def _split_arrays(values, index):
    arrays, first = {}, 0
    for name, shape in index:
        size = int(np.prod(shape))
        arrays[name] = values[first : first + size].reshape(shape)
        first += size
    assert first == len(values)
    return arrays


@pytest.fixture(scope="session")
def small_golden():
    """(`OfficialCheckpoint`, {key: expected array}) from tests/goldens. Shared: tests must not change them."""
    from nvae_tf.convert.torch_reader import OfficialCheckpoint

    with np.load(_SMALL_GOLDEN) as file:
        meta = json.loads(file["meta"].item())
        images = file["images"].astype(np.float32) / np.float32(255)
        arrays, expected = (_split_arrays(file[part], meta[part]) for part in ("weights", "expected"))
    fields = {name: meta[name] for name in ("arguments", "global_step")}
    return OfficialCheckpoint(arrays=arrays, **fields), {"x": images, **expected}


@pytest.fixture(scope="session")
def shipped_config():
    """Function from the name of a file in configs/ to what it defines, as a dict."""
    return lambda name: runpy.run_path(str(REPOSITORY / "configs" / f"{name}.py"))


@pytest.fixture(scope="session")
def two_replicas():
    """`tf.distribute.MirroredStrategy` of two devices.

    A process has only one: TensorFlow numbers the exchanges of every strategy from the same number on, and refuses one
    whose shape is not that of an earlier exchange with its number.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """Run folder of the tiny digits model at step 3; see tests/tiny.py. Shared: tests must not write to it."""
    from tests import tiny

    return tiny.write_run(tmp_path_factory.mktemp("digits_run"))


@pytest.fixture(scope="session")
def tiny_run_dir(tmp_path_factory):
    """Run folder of tests/export/tiny_export.py. Shared: tests must not write to it."""
    return _tiny(tmp_path_factory) / "run"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """Folder of the exported model with a checked and published version 1. Shared: tests must not write to it."""
    return _tiny(tmp_path_factory) / "nvae"


@pytest.fixture(scope="module")
def served():
    """(`ToyModel`, {"grpc": port, "rest": port}) of its server; tests must change the model only by monkeypatch."""
    from tests.serving.toy_model import ToyModel, serving

    model = ToyModel()
    with serving(model) as (grpc_port, rest_port):
        yield model, {"grpc": grpc_port, "rest": rest_port}


def _tiny(tmp_path_factory):
    from tests.export.tiny_export import export_tiny, write_run

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    # The first worker exports the model for all workers.
    with open(folder / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "tiny" / "nvae" / "1").exists():
            export_tiny(write_run(folder / "tiny" / "run"), folder / "tiny" / "nvae")
    return folder / "tiny"


@pytest.fixture
def mount():
    """Function that mounts a file system, by arguments of the program `mount`, at a folder until the test ends."""
    folders = []

    def call(folder, *arguments):
        if shutil.which("mount") is None:
            pytest.skip("no program `mount`")
        done = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield call
    for folder in folders:  # lazily, because TensorFlow may still hold a file that a test has read open
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_disk(mount, tmp_path):
    """A separate file system of 512 KiB."""
    (tmp_path / "disk").mkdir()
    return mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=512k", "tmpfs")


@pytest.fixture
def program():
    """Function that imports a program of tools/ and parses its flags: program("traverse", "--seeds=1").

    Until the test ends, absl knows only the flags of that program and its own, since programs may share flag names.
    """
    before, loaded, modules = dict(vars(flags.FLAGS)), [], flags.FLAGS.flags_by_module_dict()
    of_absl = [flag for module, defined in modules.items() if module.startswith("absl.") for flag in defined]

    def load(name, *arguments):
        own = flags.FlagValues()
        for flag in of_absl:
            own[flag.name] = flag
        vars(flags.FLAGS).update(vars(own))
        loaded.append(name)
        _forget(loaded)
        module = importlib.import_module(f"tools.{name}")
        flags.FLAGS([name, *map(str, arguments)])
        return module

    yield load
    vars(flags.FLAGS).update(before)
    _forget(loaded)


def _forget(modules):
    for name in modules:
        sys.modules.pop(f"tools.{name}", None)


@pytest.fixture
def writer(tmp_path):
    """`tf.summary` writer to tmp_path."""
    return tf.summary.create_file_writer(str(tmp_path))


@pytest.fixture
def events(writer, tmp_path):
    """Function that closes the writer and returns the written events as {tag: {step: value}}."""

    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    def read():
        writer.close()
        accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
        return {
            tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}
            for tag in accumulator.Tags()["tensors"]
        }

    return read
