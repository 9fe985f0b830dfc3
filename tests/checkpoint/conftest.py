"""A run folder, and ways to damage its checkpoints."""

import os

import pytest

from nvae_tf.checkpoint import RunFolder
from nvae_tf.config import Config

SHARD, INDEX = "state.data-00000-of-00001", "state.index"


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _cut_last_byte(path):
    os.truncate(path, path.stat().st_size - 1)


def _zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _delete(path):
    path.unlink()


_DAMAGES = [(name, damage) for name in (SHARD, INDEX) for damage in (_truncate, _cut_last_byte, _zero, _flip, _delete)]


@pytest.fixture(params=_DAMAGES, ids=[f"{name.split('-')[0]}{damage.__name__}" for name, damage in _DAMAGES])
def damage(request):
    """Function that damages the checkpoint in a folder; a test runs once for each kind of damage."""
    name, how = request.param
    return lambda folder: how(folder / name)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run").create(Config())
