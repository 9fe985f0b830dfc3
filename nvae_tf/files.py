"""Writes files and folders that are either complete or absent, even after a power failure.

Everything is written under a temporary name first. There are three kinds of temporary names:

tmp_0123abcd_NAME   being written; the digits are drawn, so that no two programs write to one file or folder
tmp_replaced_NAME   the complete former NAME, until its replacement is in place; restored if that never happens
tmp_old_NAME        being removed
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import pathlib
import secrets
import shutil
import socket
import tempfile

from absl import logging

TEMPORARY = "tmp_"
DRAWN = f"{TEMPORARY}{'[0-9a-f]' * 8}_"  # pattern of a drawn temporary name, for glob
REPLACED = f"{TEMPORARY}replaced_"
_OLD = f"{TEMPORARY}old_"
LOST_AND_FOUND = "lost+found"  # in the root of many volumes
_FILLING = ".filling.json"  # in a temporary folder: the names of what is being moved from it to the folder around it


def sync(path):
    """Waits until the content of a file, or the list of entries of a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # EINVAL: the file system cannot sync folders, which is no reason to fail.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def temporary_name(final):
    """Temporary path to write to before renaming it to `final`, drawn anew each time.

    It keeps the suffix, from which libraries infer the format.
    """
    return final.with_name(f"{TEMPORARY}{secrets.token_hex(4)}_{final.name}")


def put_folder(temporary, final):
    """Renames a folder from its temporary to its final name; an existing folder becomes `tmp_replaced_NAME`."""
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    if final.exists():
        os.rename(final, final.with_name(REPLACED + final.name))
    os.rename(temporary, final)
    sync(final.parent)


@contextlib.contextmanager
def lock(path, wait=True, create=False):
    """Locks a folder or, if `create`, a file that is created with its folder, at most until the process ends.

    Yields whether it could: False if another process holds the lock, None if the file system has no locks.
    """
    while True:
        descriptor = _open_lock(path) if create else os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                locked = True
            except OSError as error:
                locked = False if isinstance(error, BlockingIOError) else None
            # While this waited it may have been removed or renamed; then nobody else would notice this lock.
            if _is_open(path, descriptor):
                yield locked
                return
        finally:
            os.close(descriptor)


def _is_open(path, descriptor):
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_lock(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Some network file systems lock only what is open for writing.
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user was killed in a folder of both
        return os.open(path, os.O_RDONLY)


@contextlib.contextmanager
def new_file(path):
    """Yields a temporary path to write to, which becomes `path` at the end; an exception leaves `path` unchanged."""
    path = pathlib.Path(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.absolute().parent)


@contextlib.contextmanager
def temporary_folder(final):
    """Yields a new, locked folder beside `final`; those that killed programs left unlocked are removed first."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with lock(final.parent):  # until the new folder is locked
            for path in _temporaries(final):
                # It is not found if it has just got its name.
                with contextlib.suppress(FileNotFoundError), lock(path, wait=False) as unused:
                    if unused:
                        _discard(path)
            temporary = temporary_name(final)
            temporary.mkdir()
            stack.enter_context(lock(temporary))
        yield temporary


def _temporaries(final):
    return list(final.parent.glob(DRAWN + glob.escape(final.name)))


def _discard(temporary):
    """Removes a temporary folder, with what was moved from it to a folder that it did not fill to the end."""
    for name in read_json(temporary / _FILLING) or ():
        path = temporary.with_name(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)


def is_vacant(path):
    """Whether `new_folder` takes a path: there is nothing, or only lost+found and what a killed `new_folder` left."""
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        return not os.path.lexists(path)
    left = {LOST_AND_FOUND}
    for temporary in _temporaries(path / path.name):
        left |= {temporary.name, *(read_json(temporary / _FILLING) or ())}
    return {entry.name for entry in path.iterdir()} <= left


def _check_vacant(path):
    if not is_vacant(path):
        raise FileExistsError(f"{path}: expected a new folder or an empty one. Received: a file or a folder with files")


@contextlib.contextmanager
def new_folder(path):
    """Yields a temporary folder to write to, which becomes `path` at the end; an exception removes it.

    A vacant folder is written inside and filled at the end, because a volume cannot be renamed.

    Raises:
        FileExistsError: `path` is not vacant, at the beginning or at the end.
    """
    path = pathlib.Path(path).absolute()
    _check_vacant(path)
    fills = path.is_dir()
    with temporary_folder(path / path.name if fills else path) as temporary:
        try:
            yield temporary
            with lock(temporary.parent):
                _check_vacant(path)
                if fills:
                    _fill(path, temporary)
                else:
                    put_folder(temporary, path)
        except BaseException:
            _discard(temporary)
            raise


def _fill(path, temporary):
    names = sorted(entry.name for entry in temporary.iterdir())
    write_json(temporary / _FILLING, names)
    for name in names:
        sync(temporary / name)
        os.rename(temporary / name, path / name)
    shutil.rmtree(temporary)
    sync(path)


def check_writable(folder):
    """Writes and removes a file in a folder or, until that exists, in the nearest folder above it that does.

    Raises:
        OSError: it is not allowed, the disk is full or read-only, or a file is in the place of a folder.
    """
    folder = pathlib.Path(folder)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=there, prefix=TEMPORARY) as file:
            file.write(bytes(4096))  # a full disk accepts an empty file
            file.flush()
    except OSError as error:
        raise OSError(f"{folder}: expected a folder that can be written to. Received: {error.strerror}") from error


@contextlib.contextmanager
def only_writer(folder, name="lock", wait=False, written=None):
    """Context in which no other process, of this machine or another, holds the same lock.

    The file of a process that was killed does no harm: the system releases the lock of a process that ends.

    Args:
        folder: folder to write to, which is created if needed.
        name: file in it that is locked and removed at the end, with its folder if that is new and empty.
            Default "lock".
        wait: wait for the other process instead of raising an error. Default False.
        written: what the lock protects, to be named in the error. Default None, `folder`.

    Raises:
        ValueError: another process holds the lock; the message has its number and its host.
        OSError: see `check_writable`.
    """
    check_writable(folder)
    path = pathlib.Path(folder, name)
    is_new = not path.parent.exists()
    with lock(path, wait, create=True) as locked:
        if locked is False:
            holder = ""
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                holder = path.read_text()
            raise ValueError(
                f"{written or folder}: expected no other program that writes it. Received: {holder or 'one'}"
            )
        if locked is None:
            logging.warning("%s: expected a file system with locks. Received: one without", folder)
        with contextlib.suppress(PermissionError):  # the file of another user
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                if is_new:
                    path.parent.rmdir()


@contextlib.contextmanager
def plain_path(folder):
    """Yields a path of an existing folder in which TensorFlow finds files.

    TensorFlow looks for the files of a checkpoint or SavedModel by a pattern, so it reads no path with a bracket or a
    backslash in it, although it writes there. For such a folder the path is that of a descriptor, in /proc.
    """
    if not set("[]*?\\") & set(str(folder)):
        yield pathlib.Path(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield pathlib.Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Writes a text file, replacing an existing one."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def strict_json(value):
    """Replaces non-finite numbers by None, because strict JSON cannot represent them."""
    if isinstance(value, dict):
        return {name: strict_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, values, indent=2):
    """Writes values to a file as strict JSON, replacing an existing file."""
    write_text(path, json.dumps(strict_json(values), indent=indent, allow_nan=False) + "\n")


def read_json(path):
    """The contents of a JSON file, or None if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON. Received: {error}") from error


def remove_folder(folder):
    """Removes a folder; an interruption leaves a temporary folder, never a checkpoint with missing files.

    A failure is only a warning, because a superfluous folder does no harm.
    """
    old = folder.with_name(_OLD + folder.name)
    try:
        os.rename(folder, old)
        shutil.rmtree(old)
    except OSError as error:
        logging.warning("%s: expected to remove it. Received: %s", folder, error)


def tidy(folder, pattern=f"{TEMPORARY}*"):
    """Removes the remains of interrupted writes; a folder that was about to be replaced gets its name back."""
    for path in sorted(folder.glob(pattern)):
        replaced = path.name.startswith(REPLACED)
        final = path.with_name(path.name.removeprefix(REPLACED))
        try:
            if replaced and not final.exists():
                os.rename(path, final)
            elif replaced:
                # Renamed first, because `tmp_replaced_` promises a complete folder.
                remove_folder(path)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logging.warning("%s: expected to remove it. Received: %s", path, error)


def file_sum(path):
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_space(path):
    """Free space on the file system of `path`, which need not exist, as text."""
    try:
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        return f"{shutil.disk_usage(existing).free / 2**20:.1f} MiB"
    except OSError as error:
        return f"unknown ({error})"
