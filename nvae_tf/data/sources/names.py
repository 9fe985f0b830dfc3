"""Where a data set's files are, and what to say when they are not there."""

_MAX_LISTED = 20


def contents(folder):
    """What a folder holds, in words, for messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{folder} holds {', '.join(names[:_MAX_LISTED]) or 'nothing'}{more}"


def find_files(root, folders, patterns):
    """Files of one split.

    Args:
        root: `pathlib.Path`, the folder of the data set or its parent.
        folders: names of the data set's folder below the parent, best first.
        patterns: glob patterns of the split's files, best first; the first that matches decides, so that two
            formats of the same images are never mixed.

    Returns:
        Sorted list of `pathlib.Path`; empty where there are none.
    """
    for place in (root, *(root / name for name in folders)):
        for pattern in patterns:
            found = sorted(path for path in place.glob(pattern) if path.is_file())
            if found:
                return found
    return []
