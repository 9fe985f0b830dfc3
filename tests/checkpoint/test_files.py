"""Contents of the disk after a write that failed or was interrupted."""

import contextlib
import errno
import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from nvae_tf.checkpoint import CheckpointError, RunFolder
from nvae_tf.config import Config

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
SIZE = 30_000  # float32 values: about 120 KiB


def _part(value):
    return {"model": {"w": tf.Variable(tf.fill([SIZE], float(value)))}}


def _value(folder, step=None):
    fresh = _part(-1)
    folder.restore(fresh, step)
    values = set(fresh["model"]["w"].numpy().tolist())
    assert len(values) == 1
    return values.pop()


def _tree(folder):
    return sorted(str(path.relative_to(folder.checkpoints)) for path in folder.checkpoints.rglob("*"))


def _warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# From no space at all to space for the values but not for the index.
@pytest.mark.parametrize("free_pages", [0, 1, 2, 15, 30])
@pytest.mark.parametrize("step", [1, 2])
def test_full_disk(small_disk, free_pages, step):
    folder = RunFolder(small_disk / "run").create(Config())
    folder.save(1, _part(1))
    before = _tree(folder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - free_pages * PAGE_KIB * 1024))
    with pytest.raises(CheckpointError) as caught:
        folder.save(step, _part(5), keep=1)
    message = str(caught.value)
    assert f"step_0000000{step}: expected to write 0.1 MiB. Received: " in message
    assert "No space left on device" in message
    assert f"without it: {free_pages * PAGE_KIB / 1024:.1f} MiB. Last good checkpoint: step 1." in message
    assert _tree(folder) == before
    assert _value(folder) == 1
    ballast.unlink()
    folder.save(step, _part(5), keep=1)
    assert folder.steps() == [step] and _value(folder) == 5


def test_full_disk_and_the_mark_of_the_best(small_disk):
    folder = RunFolder(small_disk / "run").create(Config())
    for step in (1, 2):
        folder.save(step, _part(step))
    folder.mark_best(1, 90.0)
    before = _tree(folder)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(CheckpointError, match="best.json: .*No space left on device.*Last good checkpoint: step 2"):
        folder.mark_best(2, 80.0)
    assert _tree(folder) == before
    assert folder.best() == {"step": 1, "nelbo": 90.0}


def test_last_good_checkpoint_is_one_that_can_be_read(folder, monkeypatch, damage):
    folder.save(1, _part(1))
    damage(folder.save(2, _part(2)))
    monkeypatch.setattr("os.fsync", _fail_at(0))
    with pytest.raises(CheckpointError, match="Last good checkpoint: step 1"):
        folder.save(3, _part(3))


def _fail_at(call):
    """An `os.fsync` whose call with this number fails."""
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


def _fail_to_write(checkpoint, path):
    pathlib.Path(f"{path}.data-00000-of-00001").write_bytes(b"begun")
    raise tf.errors.ResourceExhaustedError(None, None, f"{path}; No space left on device")


def _fail_at_final_name(source, target, rename=os.rename):
    if pathlib.Path(source).match("tmp_[0-9a-f]*_step_*"):
        raise OSError(errno.ENOSPC, "No space left on device")
    rename(source, target)


@pytest.mark.parametrize(
    "name, failure",
    [
        ("tensorflow.train.Checkpoint.write", _fail_to_write),
        ("os.fsync", 0),
        ("os.fsync", 2),
        ("os.fsync", 3),
        ("os.rename", _fail_at_final_name),
    ],
    ids=["write", "sync first file", "sync last file", "sync folder", "rename"],
)
@pytest.mark.parametrize("step", [2, 3])
def test_failure_at_any_point_loses_nothing(folder, monkeypatch, name, failure, step):
    for old in (1, 2):
        folder.save(old, _part(old))
    before = _tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(name, _fail_at(failure) if name == "os.fsync" else failure)
        with pytest.raises(CheckpointError) as caught:
            folder.save(step, _part(5), keep=1, milestone=True)
    message = str(caught.value)
    assert f"step_0000000{step}: expected to write 0.1 MiB" in message and "No space left on device" in message
    assert "MiB. Last good checkpoint: step 2." in message
    assert _tree(folder) == before
    assert [_value(folder, old) for old in (1, 2)] == [1, 2]


@pytest.mark.parametrize("step, values", [(2, [1, 5]), (3, [1, 2, 5])])
def test_new_name_that_may_not_be_on_disk_is_a_failure_that_removes_nothing_else(folder, monkeypatch, step, values):
    for old in (1, 2):
        folder.save(old, _part(old))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", _fail_at(3))  # two files and their folder come first
        with pytest.raises(CheckpointError, match=f"No space left on device.*Last good checkpoint: step {step}"):
            folder.save(step, _part(5), keep=1)
    assert [_value(folder, old) for old in folder.steps()] == values


def test_step_whose_writing_was_interrupted_can_be_saved(folder, monkeypatch):
    def stop(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.save(1, _part(1))
    assert next(folder.checkpoints.glob("tmp_*_step_00000001")).is_dir() and folder.steps() == []
    folder.save(1, _part(5))
    assert _value(folder) == 5 and [path.name for path in folder.checkpoints.iterdir()] == ["step_00000001"]


def test_interruption_while_replacing_leaves_what_was_there(folder, monkeypatch):
    folder.save(1, _part(1))
    folder.save(3, _part(3), milestone=True)

    def stop(source, target, rename=os.rename):
        if pathlib.Path(source).match("tmp_[0-9a-f]*_step_*"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.save(3, _part(5))
    assert not (folder.checkpoints / "step_00000003").exists()
    assert folder.steps() == [1, 3]
    assert folder.restore_latest(_part(0)) == 3 and _value(folder, 3) == 3
    folder.save(4, _part(4), keep=1)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step_00000003", "step_00000004"]
    assert _value(folder, 3) == 3


def test_everything_is_on_disk_before_it_is_renamed(folder, monkeypatch):
    events = []

    def fsync(descriptor):
        events.append(("sync", pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def rename(source, target, rename=os.rename):
        events.append(("rename", pathlib.Path(source)))
        rename(source, target)

    folder.save(1, _part(1))
    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.rename", rename)
    folder.save(2, _part(2), keep=1, milestone=True)
    temporary = events[4][1]
    assert temporary.match(f"{folder.checkpoints}/tmp_*_step_00000002")
    files = {temporary / name for name in ("milestone", "state.data-00000-of-00001", "state.index")}
    assert {path for _, path in events[:3]} == files
    assert events[3:] == [
        ("sync", temporary),
        ("rename", temporary),
        ("sync", folder.checkpoints),
        ("rename", folder.checkpoints / "step_00000001"),
    ]
    events.clear()
    folder.mark_best(2, 1.0)
    assert events[0][1].match("tmp_*_best.json") and events[1:] == [("sync", folder.checkpoints)]
    events.clear()
    other = RunFolder(folder.path / "other").create(Config())
    assert events[0][1].match("tmp_*_config.json") and events[1:] == [("sync", other.path)]


@pytest.mark.parametrize("only_folders", [True, False])
def test_file_systems_that_cannot_sync_folders_are_accepted(folder, monkeypatch, only_folders):
    def fsync(descriptor):
        if not only_folders or os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.fsync", fsync)
    expected = contextlib.nullcontext() if only_folders else pytest.raises(CheckpointError, match="Invalid argument")
    with expected:
        folder.save(1, _part(1))
    assert folder.steps() == ([1] if only_folders else [])


@pytest.mark.parametrize("step", [1, 2])
def test_failure_to_remove_is_a_warning(folder, monkeypatch, caplog, step):
    folder.save(1, _part(1))

    def rmtree(path):
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", rmtree)
        folder.save(step, _part(5), keep=1)
    assert any("step_00000001: expected to remove it" in line and "busy" in line for line in _warnings(caplog))
    assert folder.steps() == [step] and _value(folder) == 5
    folder.save(3, _part(3))
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [f"step_0000000{step}", "step_00000003"]
