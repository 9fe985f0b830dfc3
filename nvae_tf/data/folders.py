"""Where a data set's files are, and what to say when they are not there."""

import pathlib

_MAX_LISTED = 20


def _contents(folder):
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{folder} holds {', '.join(names[:_MAX_LISTED]) or 'nothing'}{more}"


def find_files(data_dir, folders, patterns):
    """The files of one split.

    Args:
        data_dir: the folder of the data set, or its parent.
        folders: names of the data set's folder below the parent, best first.
        patterns: glob patterns of the split's files, best first; the first that matches decides, so that two
            formats of the same images are never mixed.

    Returns:
        Sorted list of `pathlib.Path`, not empty.

    Raises:
        ValueError: `data_dir` is not given.
        FileNotFoundError: no such folder, or none of the files in it; the message says what there is.
    """
    if not data_dir:
        raise ValueError(f"data_dir: expected the folder with {' or '.join(patterns)}. Received: {data_dir!r}")
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir: expected an existing folder. Received: {str(root)!r}")
    places = [root, *(root / name for name in folders)]
    for place in places:
        for pattern in patterns:
            found = sorted(path for path in place.glob(pattern) if path.is_file())
            if found:
                return found
    looked = ", ".join(str(place) for place in places)
    present = "; ".join(_contents(place) for place in places if place.is_dir())
    raise FileNotFoundError(f"data_dir: expected {' or '.join(patterns)} in one of {looked}. Received: {present}")
