"""The reference numbers that lie beside the tests."""

import argparse
import json
import pathlib

import numpy as np
import pytest

from nvae_tf.convert.torch_reader import OfficialCheckpoint

_SMALL = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "cifar10_tiny_flow.npz"


def _split(values, index):
    arrays, first = {}, 0
    for name, shape in index:
        size = int(np.prod(shape))
        arrays[name] = values[first : first + size].reshape(shape)
        first += size
    assert first == len(values)
    return arrays


@pytest.fixture(scope="session")
def small_golden():
    """(`OfficialCheckpoint`, {key: expected array}) of tests/goldens. Shared: no test may change them."""
    with np.load(_SMALL) as file:
        meta = json.loads(file["meta"].item())
        images = file["images"].astype(np.float32) / np.float32(255)
        arrays, expected = (_split(file[part], meta[part]) for part in ("weights", "expected"))
    fields = {name: meta[name] for name in ("arguments", "arch_instance", "epoch", "global_step")}
    return OfficialCheckpoint(arrays=arrays, **fields), {"x": images, **expected}


@pytest.fixture
def save_checkpoint(tmp_path):
    """Function that writes an `OfficialCheckpoint` as a checkpoint.pt; keywords replace parts of it."""
    torch = pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")

    def save(checkpoint, **changes):
        path = tmp_path / "checkpoint.pt"
        content = {
            "state_dict": {name: torch.tensor(array) for name, array in checkpoint.arrays.items()},
            "args": argparse.Namespace(**checkpoint.arguments),
            "arch_instance": checkpoint.arch_instance,
            "optimizer": {},
            "epoch": checkpoint.epoch,
            "global_step": checkpoint.global_step,
        }
        torch.save(content | changes, path)
        return path

    return save
