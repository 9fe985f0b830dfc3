"""Writes files and folders that are either complete or absent, even after a power failure.

Everything is written under a temporary name first. There are three kinds of temporary names:

tmp_NAME            being written
tmp_replaced_NAME   the complete former NAME, until its replacement is in place; restored if that never happens
tmp_old_NAME        being removed
"""

import contextlib
import errno
import fcntl
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
REPLACED = f"{TEMPORARY}replaced_"
_OLD = f"{TEMPORARY}old_"
LOST_AND_FOUND = "lost+found"  # in the root of many volumes


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
    """Temporary path to write to before renaming it to `final`."""
    return final.with_name(TEMPORARY + final.name)


def put_folder(final):
    """Renames a folder from its temporary to its final name; an existing folder becomes `tmp_replaced_NAME`."""
    temporary = temporary_name(final)
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    if final.exists():
        os.rename(final, final.with_name(REPLACED + final.name))
    os.rename(temporary, final)
    sync(final.parent)


@contextlib.contextmanager
def lock(path, wait=True):
    """Locks a file or a folder, at most until the process ends.

    Yields whether it could: False if another process holds the lock, None if the file system has no locks.
    """
    # Some network file systems lock only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            locked = True
        except OSError as error:
            locked = False if isinstance(error, BlockingIOError) else None
        yield locked
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path):
    """Yields a temporary path to write to, which becomes `path` at the end; an exception leaves `path` unchanged.

    The temporary name keeps the suffix, from which libraries infer the format, and is drawn anew each time, so that
    two processes, also of two machines, do not write to one file.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}_{path.name}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.absolute().parent)


def is_vacant(path):
    """Whether `new_folder` takes a path: there is nothing, or only lost+found and what a killed `new_folder` left."""
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        return not os.path.lexists(path)
    return {entry.name for entry in path.iterdir()} <= {LOST_AND_FOUND, temporary_name(path).name}


@contextlib.contextmanager
def new_folder(path):
    """Yields a temporary folder to write to, which becomes `path` at the end; an exception removes it.

    A vacant folder is written inside and filled at the end, because a volume cannot be renamed.

    Raises:
        FileExistsError: `path` is not vacant.
    """
    path = pathlib.Path(path).absolute()
    if not is_vacant(path):
        raise FileExistsError(f"{path}: expected a new folder or an empty one. Received: a file or a folder with files")
    fills = path.is_dir()
    temporary = temporary_name(path / path.name if fills else path)
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if fills:
            for entry in sorted(temporary.iterdir()):
                sync(entry)
                os.rename(entry, path / entry.name)
            temporary.rmdir()
            sync(path)
        else:
            put_folder(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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
def only_writer(folder, name="lock", wait=False):
    """Context in which no other process, of this machine or another, holds the same lock.

    The file need not be removed: the system releases the lock of a process that ends, in whatever way.

    Args:
        folder: folder to write to, which is created if needed.
        name: file in it that is locked, whose folder is removed if it still holds nothing else at the end.
            Default "lock".
        wait: wait for the other process instead of raising an error. Default False.

    Raises:
        ValueError: another process holds the lock; the message has its number and its host.
        OSError: see `check_writable`.
    """
    check_writable(folder)
    path = pathlib.Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with lock(path, wait) as locked:
        if locked is False:
            holder = path.read_text() or "one"
            raise ValueError(f"{folder}: expected no other program that writes it. Received: {holder}")
        if locked is None:
            logging.warning("%s: expected a file system with locks. Received: one without", folder)
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if os.listdir(path.parent) == [path.name]:
                    shutil.rmtree(path.parent)


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


def tidy(folder):
    """Removes the remains of interrupted writes; a folder that was about to be replaced gets its name back."""
    for path in sorted(folder.glob(f"{TEMPORARY}*")):
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
