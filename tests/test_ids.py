"""The ids of parametrised tests, by which the processes of pytest-xdist agree on what to run."""

import gzip


def test_content_is_not_in_ids(request):
    contents = [gzip.compress(b""), b"plain", "two\nlines", r"expected .* Received: \d+", "/tmp/" + 40 * "x"]
    for value, name in (*((content, "argument") for content in contents), ("train_32x32.zip", None), (3, None)):
        hook = request.config.hook.pytest_make_parametrize_id
        assert hook(config=request.config, val=value, argname="argument") == name


def test_ids_of_all_tests_are_names_in_one_order(request):
    items = request.session.items
    ids = [item.nodeid for item in items]
    assert [name for name in ids if "\\" in name or " at 0x" in name or len(name) > 250] == []
    marks = [(item.nodeid, mark.args[1]) for item in items for mark in item.iter_markers("parametrize")]
    assert [name for name, values in marks if isinstance(values, (set, frozenset))] == []
