"""A version with broken files is caught by the one rule about them."""

import os
import shutil

import pytest

from tests.export.saved_model.check.good_saved_model import (
    assert_breaks,
    change_card,
    complete,
    edit_graph,
    failed_rules,
    replace_text,
)


def _cut_variables(version):
    path = version / "variables" / "variables.data-00000-of-00001"
    os.truncate(path, path.stat().st_size // 2)
    complete(version)


def _no_index(version):
    (version / "variables" / "variables.index").unlink()
    complete(version)


def _asset(path):
    def edit(version):
        edit_graph(version, lambda graph: graph.asset_file_def.add(filename=path))
        complete(version)

    return edit


_FILES = {
    "absolute-asset": ("assets", _asset("/home/me/words.txt"), "/home/me/words.txt"),
    "outside-asset": ("assets", _asset("../words.txt"), "../words.txt"),
    "missing-asset": ("assets", _asset("words.txt"), "words.txt"),
    "temporary-file": ("leftovers", lambda version: (version / "saved_model.pb.tmp7").touch(), "saved_model.pb.tmp7"),
    "temporary-folder": ("leftovers", lambda version: (version / "variables_temp").mkdir(), "variables_temp"),
    "cut-variables": ("variables", _cut_variables, "variables/: "),
    "no-index": ("variables", _no_index, "variables.index"),
    "changed-file": (
        "checksums",
        lambda version: (version / "saved_model.pb").open("ab").write(b"\xf8\x7f\x00"),
        "saved_model.pb is not the file",
    ),
    "missing-file": ("checksums", replace_text("assets.extra/model.json", "variables.i", "no.i"), "variables/no.index"),
    "no-checksums": ("checksums", change_card(checksums=None), "checksums"),
    "card-no-json": (
        "model_card",
        lambda version: (version / "assets.extra" / "model.json").write_text("{"),
        "expected a JSON object",
    ),
    "card-dtype": ("model_card", replace_text("assets.extra/model.json", "uint8", "int32"), "signature sample"),
    "card-signature": ("model_card", change_card(signatures={}), "signature sample: expected"),
    "card-fields": ("model_card", change_card(signatures={"sample": 1}), "TypeError"),
    "card-sizes": ("model_card", change_card(allowed_batch_sizes="12"), "allowed_batch_sizes"),
}


@pytest.mark.parametrize("case", _FILES)
def test_broken_files(version, case):
    rule, edit, words = _FILES[case]
    edit(version)
    assert_breaks(version, rule, words)


def test_version_name(version):
    """The exporter checks a version before it gets its number."""
    shutil.copytree(version, version.with_name("tmp_2"))
    assert_breaks(version.with_name("tmp_2"), "version_name", "Received: tmp_2")
    assert not failed_rules(version.with_name("tmp_2"), published=False)
