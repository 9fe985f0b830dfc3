"""The official checkpoint is read as data, and none of it is executed."""

import argparse
import collections
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from nvae_tf.convert.torch_reader import ConversionError, read_checkpoint

torch = pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")


class Hostile:
    """An object whose unpickling creates the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def content(**changes):
    result = {
        "state_dict": {"stem.bias": torch.arange(3.0), "bn.num_batches_tracked": torch.tensor(7)},
        "args": argparse.Namespace(dataset="mnist"),
        "epoch": 2,
        "global_step": 20,
        **changes,
    }
    return {key: value for key, value in result.items() if value is not None}


@pytest.fixture
def save(tmp_path):
    def write(value, **options):
        path = tmp_path / "checkpoint.pt"
        torch.save(value, path, **options)
        return path

    return write


def assert_refused(path, *parts):
    """Asserts that an error names the file and contains every part."""
    with pytest.raises(ConversionError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    for part in (str(path), "expected", "Received: ", *parts):
        assert part in message
    # Torch advises reading the file again without its protection; we must not.
    assert "weights_only" not in message
    return message


@pytest.mark.parametrize("zipped", [True, False])
def test_values_survive_in_both_torch_formats(save, zipped):
    checkpoint = read_checkpoint(save(content(), _use_new_zipfile_serialization=zipped))
    np.testing.assert_array_equal(checkpoint.arrays["stem.bias"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(checkpoint.arrays["bn.num_batches_tracked"], 7.0)
    assert checkpoint.arrays["bn.num_batches_tracked"].dtype == np.float32
    assert checkpoint.arguments == {"dataset": "mnist"}
    assert checkpoint.global_step == 20


def test_half_and_double_precision_become_float32(save):
    weights = {"a": torch.tensor([0.5], dtype=torch.float16), "b": torch.tensor([0.1], dtype=torch.float64)}
    weights["c"] = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.bfloat16))
    arrays = read_checkpoint(save(content(state_dict=collections.OrderedDict(weights)))).arrays
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [0.5],
        "b": [float(np.float32(0.1))],
        "c": [3.0],
    }
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_fields_that_old_files_lack(save):
    assert read_checkpoint(save(content(global_step=None))).global_step == 0


@pytest.mark.parametrize("where", ["args", "optimizer", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_torch_file_runs_nothing(save, tmp_path, where, zipped):
    marker = tmp_path / "ran"
    path = save(content(**{where: Hostile(marker)}), _use_new_zipfile_serialization=zipped)
    assert_refused(path, f"{os.system.__module__}.system", "refused")
    assert not marker.exists()


def test_hostile_plain_pickle_runs_nothing(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    assert_refused(path)
    assert not marker.exists()
    # The bait works: ordinary unpickling executes it.
    pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.001, 0.999])
def test_truncated_file(save, part, zipped):
    path = save(content(), _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(part * len(data)))])
    assert_refused(path, "a damaged or foreign file")


def test_files_that_are_not_checkpoints(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert_refused(path, "No such file")
    for data in (b"", b"epoch: 3\n", np.random.default_rng(0).bytes(1000)):
        path.write_bytes(data)
        assert_refused(path, "a damaged or foreign file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.txt", "1 2 3")
    assert_refused(path, "a damaged or foreign file")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert_refused(folder, "Is a directory")


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"state_dict": None}, ("the key 'state_dict'", "'args'")),
        ({"args": None}, ("the key 'args'", "'state_dict'")),
        ({"args": {"dataset": "mnist"}}, ("args", "argparse.Namespace", "dict")),
        ({"state_dict": [1.0]}, ("state_dict", "list")),
        ({"state_dict": {}}, ("state_dict", "an empty dict")),
        ({"state_dict": {3: torch.zeros(1)}}, ("state_dict", "the key 3")),
        ({"state_dict": {"stem.bias": [0.0]}}, ("stem.bias", "a tensor", "list")),
        ({"state_dict": {"stem.bias": torch.tensor([1])}}, ("stem.bias", "torch.int64", "floating point")),
        ({"state_dict": {"stem.bias": torch.tensor([1j])}}, ("stem.bias", "torch.complex64")),
        ({"state_dict": {"stem.bias": torch.eye(2).to_sparse()}}, ("stem.bias", "sparse", "a dense tensor")),
        ({"state_dict": {"stem.bias": torch.zeros(2, device="meta")}}, ("stem.bias", "meta", "a dense tensor")),
        ({"state_dict": {"stem.bias": torch.zeros(1).expand(10**9)}}, ("stem.bias", "1000000000", "than the file")),
        ({"state_dict": {"w": torch.tensor([0.0, float("nan"), float("inf")])}}, ("'w'", "2 of 3", "finite")),
        ({"state_dict": {"w": torch.tensor([1e300], dtype=torch.float64)}}, ("'w'", "1 of 1", "finite float32")),
        ({"global_step": 1.5}, ("global_step", "1.5", "an integer")),
        ({"global_step": -1}, ("global_step", "-1", "an integer")),
    ],
)
def test_wrong_structure_is_named(save, changes, parts):
    assert_refused(save(content(**changes)), *parts)


def test_content_that_is_not_a_dict(save):
    assert_refused(save([1, 2]), "the content", "list")


def test_without_torch_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install -e \.\[convert\]"):
        read_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cpu"])
def test_torch_with_a_leaky_loader_is_refused(monkeypatch, save, version):
    path = save(content())
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(ImportError, match=rf"2\.6.*{version[:3]}"):
        read_checkpoint(path)
