"""New folders, folders that cannot be written to, locks and JSON."""

import math
import os
import signal
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from nvae_tf.files import check_writable, new_folder, only_writer, plain_path, strict_json

_HOLD = """
import sys
from nvae_tf.files import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    input()
"""


_KILLED = "tmp_0123abcd_out"
_DIE = """
import os, sys
from nvae_tf.files import new_folder
with new_folder(sys.argv[1]) as folder:
    (folder / "a").mkdir()
    (folder / "b").touch()
    rename = os.rename
    os.rename = lambda *paths: (rename(*paths), os._exit(9))
"""


@pytest.mark.parametrize("there", [(), ("lost+found",), (_KILLED, "lost+found")], ids=["empty", "volume", "killed"])
def test_a_vacant_folder_is_filled_and_not_replaced(tmp_path, there):
    out = tmp_path / "out"
    for name in ("", *there):
        (out / name / "left").mkdir(parents=True)
    (out / "left").rmdir()
    before = out.stat().st_ino
    with new_folder(out) as folder:
        assert list(folder.iterdir()) == []
        (folder / "checkpoints").mkdir()
        (folder / "parity.json").touch()
    assert {path.name for path in out.iterdir()} == {"checkpoints", "parity.json"} | {*there} - {_KILLED}
    assert out.stat().st_ino == before and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_that_write_one_folder_at_once_the_second_leaves_the_first_alone(tmp_path, exists):
    other = tmp_path / "tmp_out"  # not of new_folder
    other.mkdir()
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with pytest.raises(FileExistsError, match="out: expected a new folder or an empty one"), new_folder(out) as second:
        (second / "a").write_text("second")
        with new_folder(out) as first:
            (first / "a").write_text("first")
    assert (out / "a").read_text() == "first" and {*tmp_path.rglob("*")} == {other, out, out / "a"}


def test_after_a_kill_while_a_folder_is_filled_it_is_vacant_again(tmp_path):
    assert subprocess.run([sys.executable, "-c", _DIE, tmp_path]).returncode == 9
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("tmp_")] == ["a"]
    with new_folder(tmp_path) as folder:
        (folder / "b").touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


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


def test_json_of_containers_that_tensorflow_tracks():
    module = tf.Module()
    module.values = {"sizes": {"list": [1, {"a": math.nan}], "tuple": (2.5, "text")}}
    # The encoder of Python 3.13 refuses TensorFlow's wrappers, which are instances of dict but not dicts.
    assert repr(strict_json(module.values)) == "{'sizes': {'list': [1, {'a': None}], 'tuple': [2.5, 'text']}}"


@pytest.mark.parametrize(
    "place, message",
    [("file", "Not a directory"), ("file/a/b", "Not a directory"), ("loop/a", "Too many levels of symbolic links")],
)
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, place, message):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=rf"{place}: expected a folder that can be written to. Received: {message}$"):
        check_writable(tmp_path / place)
    check_writable(tmp_path / "new" / "folder")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, tmp_path / "run"], stdin=-1, stdout=-1, text=True)
    assert holder.stdout.readline() == "held\n"
    expected = (
        f"run: expected no other program that writes it. Received: process {holder.pid} on {socket.gethostname()}"
    )
    with pytest.raises(ValueError, match=expected), only_writer(tmp_path / "run"):
        pass
    with only_writer(tmp_path / "run", "evaluation.lock"):
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert (tmp_path / "run" / "lock").exists()
    with only_writer(tmp_path / "run"):
        assert (tmp_path / "run" / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert list((tmp_path / "run").iterdir()) == []
    with only_writer(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_the_lock_of_another_user_who_was_killed_is_taken_over(tmp_path, monkeypatch):
    def refuse(path, flags, *mode, open=os.open):
        if os.path.basename(path) == "lock" and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return open(path, flags, *mode)

    (tmp_path / "lock").touch()
    monkeypatch.setattr("os.open", refuse)
    with only_writer(tmp_path), pytest.raises(ValueError, match="no other program"), only_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_locks_are_accepted(tmp_path, monkeypatch):
    def flock(*unused):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with only_writer(tmp_path), only_writer(tmp_path):
        pass


@pytest.mark.parametrize("name", ["a[1]", "a]", "*", "a?", "a\\b", "a b,%20#é"])
def test_a_plain_path_is_the_same_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    with plain_path(tmp_path / name) as path:
        (path / "file").write_text("written")
        assert not set("[]*?\\") & set(str(path))
    assert (tmp_path / name / "file").read_text() == "written"
