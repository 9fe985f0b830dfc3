"""A version with broken files is caught by the one rule about them."""

import shutil

import pytest

from tests.export.saved_model.check.good_saved_model import assert_breaks, change_card, failed_rules, replace_text

_CARD = "assets.extra/model.json"
_CASES = {
    "changed-file": (
        "checksums",
        lambda version: (version / "saved_model.pb").open("ab").write(b"\xf8\x7f\x00"),
        "saved_model.pb is not the file",
    ),
    "missing-file": ("checksums", replace_text(_CARD, "variables.i", "no.i"), "variables/no.index is missing"),
    "unknown-file": (
        "checksums",
        lambda version: (version / "variables" / "new").touch(),
        "variables/new is not in checksums",
    ),
    "no-checksums": ("checksums", change_card(checksums=None), "expected a JSON object with the field checksums"),
    "card-no-json": (
        "checksums",
        lambda version: (version / _CARD).write_text("{"),
        "expected a JSON object with the field checksums",
    ),
    "dtype": ("card_signatures", replace_text(_CARD, "int64", "int32"), "model.json, input seed of sample: expected"),
    "shape": ("card_signatures", replace_text(_CARD, "2, 6, 1", "2, 8, 1"), "[None, 2, 8, 1]"),
    "output": ("card_signatures", replace_text(_CARD, '"png_bytes"', '"file"'), "output file of sample: expected None"),
    "signature": ("card_signatures", replace_text(_CARD, '"sample"', '"other"'), "image of other: expected None"),
    "none": ("card_signatures", change_card(signatures=None), "expected inputs and outputs of each signature"),
}


@pytest.mark.parametrize("case", _CASES)
def test_files_and_graphs_that_are_not_those_of_the_card(version, case):
    rule, edit, words = _CASES[case]
    edit(version)
    assert_breaks(version, rule, words)


def test_version_name(version):
    """The exporter checks a version before it gets its number."""
    shutil.copytree(version, version.with_name("tmp_2"))
    assert_breaks(version.with_name("tmp_2"), "version_name", "Received: tmp_2")
    assert not failed_rules(version.with_name("tmp_2"), published=False)
