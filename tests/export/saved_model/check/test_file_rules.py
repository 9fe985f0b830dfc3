"""A version with broken files is caught by the one rule about them."""

import shutil

import pytest

from tests.export.saved_model.check.good_saved_model import (
    assert_breaks,
    change_card,
    failed_rules,
    replace_text,
)

_FILES = {
    "changed-file": (
        lambda version: (version / "saved_model.pb").open("ab").write(b"\xf8\x7f\x00"),
        "saved_model.pb is not the file",
    ),
    "missing-file": (replace_text("assets.extra/model.json", "variables.i", "no.i"), "variables/no.index is missing"),
    "unknown-file": (lambda version: (version / "variables" / "new").touch(), "variables/new is not in checksums"),
    "no-checksums": (change_card(checksums=None), "expected a JSON object with the field checksums"),
    "card-no-json": (
        lambda version: (version / "assets.extra" / "model.json").write_text("{"),
        "expected a JSON object with the field checksums",
    ),
}


_CARDS = {
    "dtype": (replace_text("assets.extra/model.json", "int64", "int32"), "model.json, input seed of sample: expected"),
    "shape": (replace_text("assets.extra/model.json", "2, 6, 1", "2, 8, 1"), "[None, 2, 8, 1]"),
    "output": (
        replace_text("assets.extra/model.json", '"png_bytes"', '"file"'),
        "output file of sample: expected None",
    ),
    "signature": (replace_text("assets.extra/model.json", '"sample"', '"other"'), "image of other: expected None"),
    "none": (change_card(signatures=None), "expected inputs and outputs of each signature"),
}


@pytest.mark.parametrize("case", _CARDS)
def test_signatures_of_the_card_that_the_graph_has_not(version, case):
    edit, words = _CARDS[case]
    edit(version)
    assert_breaks(version, "card_signatures", words)


@pytest.mark.parametrize("case", _FILES)
def test_files_that_are_not_those_of_the_card(version, case):
    edit, words = _FILES[case]
    edit(version)
    assert_breaks(version, "checksums", words)


def test_version_name(version):
    """The exporter checks a version before it gets its number."""
    shutil.copytree(version, version.with_name("tmp_2"))
    assert_breaks(version.with_name("tmp_2"), "version_name", "Received: tmp_2")
    assert not failed_rules(version.with_name("tmp_2"), published=False)
