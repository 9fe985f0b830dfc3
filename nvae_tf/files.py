"""Files and folders that are whole or absent, also after a loss of power.

Everything is written under a temporary name first. There are three kinds of them:

tmp_NAME            being written
tmp_replaced_NAME   whole; what NAME was until its replacement gets the name, and again if that never comes
tmp_old_NAME        being removed
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil

from absl import logging

TEMPORARY = "tmp_"
REPLACED = f"{TEMPORARY}replaced_"
_OLD = f"{TEMPORARY}old_"


def sync(path):
    """Returns when a file's content, or a folder's list of entries, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # EINVAL: a file system that cannot sync folders. That is no reason not to save at all.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def temporary_name(final):
    """Path under which to write what is to become `final`."""
    return final.with_name(TEMPORARY + final.name)


def put_folder(final):
    """Gives a folder written under its temporary name its final one; what had it before becomes `tmp_replaced_`."""
    temporary = temporary_name(final)
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    if final.exists():
        os.rename(final, final.with_name(REPLACED + final.name))
    os.rename(temporary, final)
    sync(final.parent)


@contextlib.contextmanager
def new_file(path):
    """Gives a temporary path to write to, which becomes `path` at the end; an exception leaves what was there.

    The temporary name keeps the suffix, which libraries choose the format by, and holds the process's id, so that two
    processes do not write to one file.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}_{path.name}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.absolute().parent)


@contextlib.contextmanager
def new_folder(path):
    """Gives a temporary folder to write to, which becomes `path` at the end; an exception leaves nothing.

    Raises:
        FileExistsError: there is something at `path` already.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"{path}: expected a new folder. Received: one that exists")
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
    temporary.mkdir(parents=True)
    try:
        yield temporary
        put_folder(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path, text):
    """Writes a text file, or replaces it."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def strict_json(value):
    """The value with null in place of numbers that are not finite, which strict JSON has no form for."""
    if isinstance(value, dict):
        return {name: strict_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, values, indent=2):
    """Writes a value as strict JSON, or replaces the file."""
    write_text(path, json.dumps(strict_json(values), indent=indent, allow_nan=False) + "\n")


def remove_folder(folder):
    """Removes a folder; an interruption leaves a temporary name, never a checkpoint with files missing.

    A failure is a warning: what is too much on the disk stops nothing.
    """
    old = folder.with_name(_OLD + folder.name)
    try:
        os.rename(folder, old)
        shutil.rmtree(old)
    except OSError as error:
        logging.warning("%s: expected to remove it. Received: %s", folder, error)


def tidy(folder):
    """Removes what interrupted writes left; what was about to be replaced gets its name back."""
    for path in sorted(folder.glob(f"{TEMPORARY}*")):
        replaced = path.name.startswith(REPLACED)
        final = path.with_name(path.name.removeprefix(REPLACED))
        try:
            if replaced and not final.exists():
                os.rename(path, final)
            elif replaced:
                # Not at once: a name `tmp_replaced_` promises something whole.
                remove_folder(path)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logging.warning("%s: expected to remove it. Received: %s", path, error)


def file_sum(path):
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_space(path):
    """Free space where `path` is or would be, as text."""
    try:
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        return f"{shutil.disk_usage(existing).free / 2**20:.1f} MiB"
    except OSError as error:
        return f"unknown ({error})"
