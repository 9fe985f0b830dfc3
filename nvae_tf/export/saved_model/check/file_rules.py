"""Rules about the folder and the files of a SavedModel; see graph_rules.py for their form."""

from nvae_tf.export.saved_model.assets_extra import CARD
from nvae_tf.export.saved_model.check.contents import NotChecked, is_version
from nvae_tf.files import file_sum


def version_name(model):
    """The server skips folders with other names."""
    if model.published and not is_version(model.path.name):
        yield f"expected a folder named by a number: 1, 2, .... Received: {model.path.name}"


def checksums(model):
    """A file that was changed, or cut short by a copy, is not the one that was checked."""
    if not (model.path / "assets.extra" / CARD).is_file():
        raise NotChecked(f"no {CARD}")
    expected = model.card.get("checksums")
    if not isinstance(expected, dict):
        yield f"{CARD}: expected a JSON object with the field checksums, {{path: sha256}}"
        return
    written = [path.relative_to(model.path).as_posix() for path in model.path.glob("variables/*")]
    for name in sorted({*expected, "saved_model.pb", *written}):
        path = model.path / name
        if name not in expected:
            yield f"{name} is not in checksums"
        elif not path.is_file():
            yield f"{name} is missing"
        elif file_sum(path) != expected[name]:
            yield f"{name} is not the file that the card was written for"
