"""New folders, locks and JSON."""

import json
import math

import pytest
import tensorflow as tf

from nvae_tf.files import lock, new_folder, write_json


@pytest.mark.parametrize("there", [(), ("lost+found",), ("tmp_out", "lost+found")], ids=["empty", "volume", "killed"])
def test_a_vacant_folder_is_filled_and_not_replaced(tmp_path, there):
    # As the root of a volume it could not be renamed.
    out = tmp_path / "out"
    for name in ("", *there):
        (out / name / "left").mkdir(parents=True)
    (out / "left").rmdir()
    before = out.stat().st_ino
    with new_folder(out) as folder:
        assert list(folder.iterdir()) == []
        (folder / "checkpoints").mkdir()
        (folder / "parity.json").touch()
        assert not (out / "parity.json").exists()
    assert {path.name for path in out.iterdir()} == {"checkpoints", "parity.json"} | {*there} - {"tmp_out"}
    assert out.stat().st_ino == before and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("there", ["out/file", "out/tmp_other", "out"])
def test_what_is_there_is_neither_overwritten_nor_removed(tmp_path, there):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("kept")
    with (
        pytest.raises(FileExistsError, match="out: expected a new folder or an empty one"),
        new_folder(tmp_path / "out"),
    ):
        pass
    assert path.read_text() == "kept"


def test_a_failure_leaves_an_empty_folder_empty(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path) as folder:
        (folder / "file").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_has_one_holder(tmp_path):
    with lock(tmp_path) as first, lock(tmp_path, wait=False) as second:
        assert first and not second
    with lock(tmp_path, wait=False) as third:
        assert third


def test_json_of_containers_that_tensorflow_tracks(tmp_path, monkeypatch):
    module, dumps = tf.Module(), json.dumps
    module.values = {"sizes": {"list": [1, {"a": math.nan}], "tuple": (2.5, "text")}}
    kinds = set()

    def watched(values, **options):
        pending = [values]
        for value in pending:
            kinds.add(type(value))
            pending.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        return dumps(values, **options)

    # The encoder of Python 3.13 refuses TensorFlow's wrappers, which are instances of dict but not dicts.
    monkeypatch.setattr(json, "dumps", watched)
    write_json(tmp_path / "card.json", module.values)
    assert kinds == {dict, list, int, float, str, type(None)}
    expected = {"sizes": {"list": [1, {"a": None}], "tuple": [2.5, "text"]}}
    assert json.loads((tmp_path / "card.json").read_text()) == expected
