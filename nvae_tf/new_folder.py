"""A folder that is there whole or not at all."""

import contextlib
import pathlib
import shutil

from nvae_tf import files


@contextlib.contextmanager
def new_folder(path):
    """Gives a folder to write to, beside `path`, which becomes it at the end; an exception leaves nothing.

    Raises:
        FileExistsError: there is something at `path` already.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"{path}: expected a new folder. Received: one that exists")
    temporary = files.temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed export left
    temporary.mkdir(parents=True)
    try:
        yield temporary
        files.put_folder(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
