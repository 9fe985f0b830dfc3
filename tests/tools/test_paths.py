"""What all programs do with paths: those they refuse, and folders that they cannot write to."""

import contextlib
import os
import pathlib
import shutil

import pytest
from absl import flags

from nvae_tf.files import only_writer

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.stem for path in REPOSITORY.glob("tools/*.py") if path.stem not in ("__init__", "flags"))
DIGITS = REPOSITORY / "configs" / "digits.py"
# Flags with a text that is not a path.
_TEXTS = {"address", "step", "dataset", "name", "model", "host", "label", "inception_input", "inception_output"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_paths_begin_at_home_and_are_never_empty(program, name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    with contextlib.suppress(flags.Error):  # a required flag is missing
        program(name)
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        for flag in defined:
            if flag.flag_type() != "string" or flag.name in _TEXTS or module.startswith(("absl.", "ml_coll")):
                continue
            flag.parse("~/x")
            assert flag.value == "/home/me/x", flag.name
            for wrong in ("", "~nobody-of-this-name/x"):
                with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag.name}={wrong}: expected a path"):
                    flag.parse(wrong)


def test_words_and_the_configuration_begin_at_home(program, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(REPOSITORY))
    tool = program("report", f"--run_dir={REPOSITORY}")
    monkeypatch.setattr("sys.argv", ["report.py", "~/tests", "--config=~/configs/digits.py", "--split=test"])
    monkeypatch.setattr(tool, "main", lambda words: print(words))
    flags.DEFINE_string("config", None, "")
    with pytest.raises(SystemExit):
        tool.run(tool.main, takes_words=True)
    assert capsys.readouterr().out == f"{[str(REPOSITORY / 'tests')]}\n"
    assert flags.FLAGS.config == str(DIGITS)
    monkeypatch.setattr("sys.argv", ["report.py", ""])
    with pytest.raises(SystemExit):
        tool.run(tool.main, takes_words=True)
    assert "expected words. Received: an empty one" in "".join(capsys.readouterr())


def test_ctrl_c_is_one_line(program, digits_run, monkeypatch, capsys):
    tool = program("readjust_bn", f"--run_dir={digits_run}")
    monkeypatch.setattr("sys.argv", ["tools/readjust_bn.py", f"--run_dir={digits_run}"])
    monkeypatch.setattr("os._exit", lambda status: exit(status))

    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        tool.run(main)
    assert caught.value.code == 130 and capsys.readouterr().err == "readjust_bn.py: interrupted\n"


@pytest.fixture
def read_only_run(mount, digits_run, tmp_path):
    """The run folder on a file system that is mounted read-only."""
    (tmp_path / "run").mkdir()
    return mount(tmp_path / "run", "--bind", "-o", "ro", digits_run)


@pytest.fixture
def no_work(monkeypatch):
    """Programs that begin to work fail."""
    for name in ("load.load_run", "load.load_folded", "prepare.prepare", "starts.run_config"):
        monkeypatch.setattr(f"nvae_tf.runs.{name}", None)


_WRITERS = [
    ("train", f"--config={DIGITS}"),
    ("quickstart",),
    ("readjust_bn",),
    ("sample",),
    ("sample", "--out=grid.png", "--images_dir={run}/images"),
    ("bulk", "--job=sample", "--num=1", "--out={run}/many"),
    ("reconstruct",),
    ("interpolate", "--seeds=1,2"),
    ("traverse", "--seeds=1", "--group=0"),
    ("encode", "--out={run}/a.npz"),
    ("evaluate", "--out={run}/a.json"),
    ("report",),
    *(("export", f"--format={name}", "--out={run}/exported") for name in ("saved_model", "tflite", "onnx")),
]


@pytest.mark.parametrize("name, arguments", [(name, arguments) for name, *arguments in _WRITERS])
def test_a_read_only_folder_is_refused_before_any_work(
    read_only_run, no_work, program, name, arguments, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    flags = [argument.format(run=read_only_run) for argument in arguments]
    tool = program(name, f"--run_dir={read_only_run}", *flags)
    with pytest.raises(OSError, match="expected a folder that can be written to. Received: Read-only file system"):
        tool.main([]) if name == "report" else tool.main()


def test_evaluate_prints_what_it_cannot_write(read_only_run, program, capsys):
    program("evaluate", f"--run_dir={read_only_run}", "--max_images=4").main()
    output, errors = capsys.readouterr()
    assert "Read-only file system; the result is only printed, --out=FILE saves it" in errors and "NELBO" in output


@pytest.mark.parametrize("name, inception", [("evaluate", []), ("fid", [f"--inception={__file__}"])])
def test_a_model_that_ships_needs_no_folder_for_what_is_only_printed(
    read_only_run, program, name, inception, monkeypatch, capsys
):
    monkeypatch.setattr("tools.flags._SAVED_MODELS", read_only_run.parent)
    monkeypatch.chdir(read_only_run)
    tool = program(name, f"--run_dir={read_only_run}", *inception)
    assert tool._OUT("figures.json", optional=True) is None and "is only printed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "quickstart", "readjust_bn", "evaluate"])
def test_two_writers_of_one_run_are_refused(digits_run, no_work, program, name, tmp_path):
    run_dir, config = shutil.copytree(digits_run, tmp_path / "run"), [f"--config={DIGITS}"] * (name == "train")
    tool = program(name, f"--run_dir={run_dir}", *config)
    what, lock = ("--out=.*/evaluation.json", "evaluation.lock") if name == "evaluate" else ("run", "lock")
    received = f"{what}: expected no other program that writes it. Received: process {os.getpid()} on "
    with only_writer(run_dir, lock):
        with pytest.raises(ValueError, match=received):
            tool.main()
    assert not (run_dir / lock).exists()


def test_images_of_another_draw_are_refused(digits_run, no_work, program, tmp_path):
    (tmp_path / "images").mkdir()
    tool = program(
        "sample", f"--run_dir={digits_run}", f"--images_dir={tmp_path / 'images'}", f"--out={tmp_path}/a.png"
    )
    (tmp_path / "images" / "lost+found").mkdir()
    (tmp_path / "images" / "000007.JPE").touch()
    with pytest.raises(
        FileExistsError, match="images: expected a folder without images. Received: 1, first 000007.JPE"
    ):
        tool.main()
