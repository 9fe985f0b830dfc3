"""Which checkpoint is restored, and which ones are kept."""

import json

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import CheckpointError, DamagedCheckpointError, RunFolder


def _part(value=0.0, name="w"):
    return {"model": {name: tf.Variable(value, dtype=tf.float32)}}


def _value(parts):
    return parts["model"]["w"].numpy()


def _save(folder, *steps, **keywords):
    for step in steps:
        folder.save(step, _part(step), **keywords)


def _content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def _warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_restore_latest_of_good_checkpoints(folder, caplog):
    assert folder.restore_latest(_part()) is None
    assert RunFolder(folder.path / "absent").restore_latest(_part()) is None
    _save(folder, 1, 2)
    fresh = _part()
    assert folder.restore_latest(fresh) == 2 and _value(fresh) == 2
    assert not _warnings(caplog)


def test_restore_latest_falls_back(folder, damage, caplog):
    _save(folder, 10, 20, 30)
    for step in (20, 30):
        damage(folder.checkpoints / f"step_000000{step}")
    fresh = _part()
    assert folder.restore_latest(fresh) == 10 and _value(fresh) == 10
    first, second = _warnings(caplog)
    assert "step_00000030: expected a readable checkpoint. Received: " in first and first.endswith("Next: step 20")
    assert "step_00000020: expected a readable checkpoint. Received: " in second and second.endswith("Next: step 10")


def test_restore_latest_of_only_damaged_checkpoints(folder, damage):
    _save(folder, 10, 20)
    for step in (10, 20):
        damage(folder.checkpoints / f"step_000000{step}")
    fresh = _part(7)
    with pytest.raises(CheckpointError) as caught:
        folder.restore_latest(fresh)
    head, *damages = str(caught.value).split("\n  ")
    assert head == f"{folder.checkpoints}: expected a readable checkpoint. Received only damaged ones:"
    assert len(damages) == 2
    assert "step_00000020: expected" in damages[0] and "step_00000010: expected" in damages[1]
    assert _value(fresh) == 7


def test_restore_latest_does_not_fall_back_after_a_mismatch(folder, caplog):
    _save(folder, 1)
    folder.save(2, _part(2, name="other"))
    fresh = _part(7)
    with pytest.raises(
        CheckpointError, match="step_00000002, part 'model'.*\n.*1 missing in the checkpoint: w"
    ) as caught:
        folder.restore_latest(fresh)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert _value(fresh) == 7 and not _warnings(caplog)


def test_checkpoint_that_vanishes_is_a_damaged_one(folder, monkeypatch, caplog):
    _save(folder, 1)
    monkeypatch.setattr(folder, "steps", lambda: [1, 2])
    fresh = _part()
    assert folder.restore_latest(fresh) == 1 and _value(fresh) == 1
    assert len(_warnings(caplog)) == 1
    for read in (lambda: folder.restore(fresh, 2), lambda: folder.parts(2)):
        with pytest.raises(DamagedCheckpointError, match="step_00000002: expected a readable checkpoint"):
            read()


def test_damaged_checkpoint_stays_until_its_step_is_saved_again(folder, damage):
    _save(folder, 10, 20)
    path = folder.checkpoints / "step_00000020"
    damage(path)
    content = _content(path)
    folder.restore_latest(_part())
    _save(folder, 15, keep=2)
    assert folder.steps() == [15, 20] and _content(path) == content
    _save(folder, 20, keep=2)
    fresh = _part()
    assert folder.steps() == [15, 20] and folder.restore_latest(fresh) == 20 and _value(fresh) == 20


def test_milestones_stay_and_do_not_count(folder):
    _save(folder, 1, 2, keep=2)
    _save(folder, 3, keep=2, milestone=True)
    assert folder.steps() == [2, 3]
    assert _content(folder.checkpoints / "step_00000003")["milestone"] == b""
    _save(folder, 4, keep=2)
    assert folder.steps() == [3, 4]  # it is among the last two anyway
    _save(folder, 5, keep=2)
    assert folder.steps() == [3, 4, 5]
    _save(folder, 6, keep=1)
    assert folder.steps() == [3, 6]
    assert not (folder.checkpoints / "step_00000006" / "milestone").exists()


def test_milestone_saved_again_stays_a_milestone(folder):
    _save(folder, 1, milestone=True)
    _save(folder, 1)
    _save(folder, 2, 3, keep=1)
    assert folder.steps() == [1, 3]


def test_best_is_kept_until_another_is_marked(folder):
    assert folder.best() is None
    _save(folder, 1)
    assert folder.mark_best(1, np.float32(90.5)) is True
    assert json.loads((folder.checkpoints / "best.json").read_text()) == {"step": 1, "nelbo": 90.5}
    _save(folder, 2, 3, 4, keep=2)
    assert folder.steps() == [1, 3, 4]
    assert folder.mark_best(4, 90.25) is True
    assert folder.best() == {"step": 4, "nelbo": 90.25}
    assert folder.steps() == [1, 3, 4]  # the next save removes the former best
    _save(folder, 5, 6, keep=2)
    assert folder.steps() == [4, 5, 6]
    assert sorted(path.name for path in folder.checkpoints.iterdir() if not path.is_dir()) == ["best.json"]


@pytest.mark.parametrize("nelbo", [90.0, 91.0, float("nan"), float("inf"), float("-inf")])
def test_checkpoint_that_is_not_better_is_not_marked(folder, nelbo):
    _save(folder, 1, 2)
    assert folder.mark_best(2, float("nan")) is False and folder.best() is None
    folder.mark_best(1, 90.0)
    assert folder.mark_best(2, nelbo) is False
    assert folder.best() == {"step": 1, "nelbo": 90.0}


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\0", b"\xff", b"[1]", b"null", b"{}", b'{"step": 1}', b'{"step": "x", "nelbo": 1}']
)
def test_damaged_mark_of_the_best(folder, caplog, content):
    _save(folder, 1)
    (folder.checkpoints / "best.json").write_bytes(content)
    assert folder.best() is None
    assert "best.json: expected a step and a nelbo" in "".join(_warnings(caplog))
    assert folder.mark_best(1, 90.0) is True and folder.best() == {"step": 1, "nelbo": 90.0}


def test_missing_best(folder, caplog):
    _save(folder, 1, 2)
    folder.mark_best(1, 90.0)
    for file in (path := folder.checkpoints / "step_00000001").iterdir():
        file.unlink()
    path.rmdir()
    assert folder.best() is None
    assert "best.json: expected a step with a checkpoint, one of [2]. Received: 1" in "".join(_warnings(caplog))
    assert folder.mark_best(2, 95.0) is True and folder.best() == {"step": 2, "nelbo": 95.0}


@pytest.mark.parametrize(
    "step, expected",
    [(None, 30), ("latest", 30), ("best", 10), (20, 20), (np.int64(20), 20), ("20", 20), ("00020", 20)],
)
def test_words_and_numbers_for_a_step(folder, step, expected):
    _save(folder, 10, 20, 30)
    folder.mark_best(10, 90.0)
    assert repr(folder.resolve_step(step)) == repr(expected)
    fresh = _part()
    assert folder.restore(fresh, step) == expected and _value(fresh) == expected


@pytest.mark.parametrize("step", ["newest", "", "-1", "1.0", "²", 1.0, True, [1]])
def test_words_that_are_not_a_step(folder, step):
    _save(folder, 1)
    with pytest.raises(CheckpointError, match='expected a step, "latest" or "best". Received: '):
        folder.resolve_step(step)


def test_missing_steps(folder):
    for step in ("best", "latest", "1"):
        with pytest.raises(CheckpointError, match="at least one checkpoint"):
            folder.resolve_step(step)
    _save(folder, 1)
    with pytest.raises(CheckpointError, match="expected a checkpoint marked as the best. Received: none"):
        folder.resolve_step("best")
    with pytest.raises(CheckpointError, match=r"one of \[1\]. Received: 2"):
        folder.resolve_step("2")
