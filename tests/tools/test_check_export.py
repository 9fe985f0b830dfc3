"""tools/check_export.py: what it prints, and its exit status."""

import pytest

from tests.export.saved_model.check.good_saved_model import WARMUP, build


@pytest.fixture
def base_path(tmp_path):
    """Base path of a SavedModel that keeps every rule, as version 1, without models.config."""
    build(tmp_path / "nvae" / "1")
    (tmp_path / "nvae" / "models.config").unlink()
    return tmp_path / "nvae"


@pytest.fixture
def run(program, capsys):
    """Function from arguments to (exit status, printed text, printed errors)."""

    def call(*arguments, flags=()):
        with pytest.raises(SystemExit) as stop:
            program("check_export", *flags).main([*map(str, arguments)])
        return stop.value.code, *capsys.readouterr()

    return call


def test_passed(run, base_path):
    """The newest version of a base path is checked; a rule that does not apply is no failure."""
    status, text, errors = run(base_path)
    assert (status, errors) == (0, "")
    lines = text.splitlines()
    assert lines[0] == f"checking: {base_path / '1'}"
    assert [line.split()[:3] for line in lines if " executes " in line] == [["passed", "executes", "loaded"]]
    assert [line.split()[2] for line in lines if line.startswith("not checked")] == ["models_config"]
    assert lines[-1] == "18 checks, 0 failed"


def test_failed(run, base_path):
    """A finding comes with the reason of its rule."""
    (base_path / "1" / WARMUP).unlink()
    (base_path / "models.config").write_text("name")
    status, text, _ = run(base_path / "1")
    assert status == 1
    assert (
        "failed      warm_up              expected assets.extra/tf_serving_warmup_requests\n  What was not run" in text
    )
    assert "failed      models_config        models.config: 1:1" in text
    assert text.endswith("18 checks, 2 failed\n")


def test_files_of_another_folder(run, base_path):
    """A version that has yet to be moved beside the others; a label that waits for it fails, and any other warns."""
    (base_path / "incoming").mkdir()
    (base_path / "1").rename(base_path / "incoming" / "2")
    (base_path / "1").mkdir()
    for number, wanted, word in ((1, 0, "warned      "), (2, 1, "failed      ")):
        label = f'version_labels {{ key: "a" value: {number} }}'
        config = f'config {{ name: "nvae" base_path: "/nvae" model_platform: "tensorflow" {label} }}'
        (base_path / "models.config").write_text(f"model_config_list {{ {config} }}")
        status, text, _ = run(base_path / "incoming" / "2", flags=["--noexecute", f"--base_dir={base_path}"])
        (line,) = [line for line in text.splitlines() if " models_config " in line]
        assert status == wanted and line.startswith(word), text
        assert f"a to {number}: the server refuses a label moved to a version not yet loaded: add the" in line
    status, _, errors = run(base_path / "incoming" / "2", flags=["--base_dir=none"])
    assert status == 2 and errors == "check_export.py: --base_dir: expected an existing folder. Received: none\n"


def test_without_running(run, base_path):
    status, text, _ = run(base_path, flags=["--noexecute"])
    assert status == 0
    assert "not checked executes             not asked for" in text


def test_nothing_to_check(run, base_path):
    file = base_path / "1" / "saved_model.pb"
    file.write_bytes(b"\xff" * 100)
    for arguments, message in (
        ([base_path], f"{file}: expected the protobuf of a SavedModel"),
        ([base_path / "nothing"], f"{base_path / 'nothing'}: expected a folder with saved_model.pb"),
        ([], "expected one folder"),
        (["a", "b"], "expected one folder"),
    ):
        status, _, errors = run(*arguments)
        assert status == 2 and f"check_export.py: {message}" in errors
