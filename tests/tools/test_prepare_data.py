"""prepare_data.py as a program: all the ways it can be stopped, a full disk, and inspecting the result."""

import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.splits import open_images

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(REPOSITORY / "tools" / "prepare_data.py")]
NUM_IMAGES, SIZE = 600, 96


def start(*flags):
    """Starts the program in its own process group, as a terminal does."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *flags], start_new_session=True, **streams)


def run(*flags):
    return subprocess.run([*PROGRAM, *flags], capture_output=True, text=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Folder of 600 images without a split, which take a second."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        PIL.Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(folder / f"{index:03}.bmp")
    return folder


@pytest.fixture(scope="module")
def flags(source):
    return ["--dataset=folder", f"--data_dir={source}", f"--image_size={SIZE}", "--num_processes=2"]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """Folder of a run that was not stopped. No test may change it."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    done = run(*flags, f"--out_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_with_the_uninterrupted_bytes(whole, flags, tmp_path):
    out, moments, killed = tmp_path / "out", random.Random(0), 0
    for attempt in range(10):
        process = start(*flags, f"--out_dir={out}")
        time.sleep(moments.uniform(0.1, 0.7))
        if process.poll() == 0:  # it had finished, and starts from nothing again
            assert contents(out) == contents(whole)
            shutil.rmtree(out)
        else:
            killed += 1
            # The whole group, or only the parent, whose children must end by themselves.
            os.kill(process.pid, signal.SIGKILL) if attempt % 2 else os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)  # until the last process that holds the streams has ended
    assert killed >= 5
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    "number, moment", [(signal.SIGTERM, "start"), (signal.SIGINT, "start"), (signal.SIGINT, "work")]
)
def test_after_a_signal_the_same_command_resumes(whole, flags, tmp_path, number, moment):
    out = tmp_path / "out"
    process = start(*flags, f"--out_dir={out}")
    if moment == "work":
        said = [process.stderr.readline() for _ in range(3)]
        assert said[1] == "left out: nothing\n" and re.fullmatch(r"\d+/600 images(, .*)?\n", said[2])
    while not (out / ".progress" / "plan.json").exists():  # then its processes start
        time.sleep(0.01)
    time.sleep(0.05)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75, errors
    lines = [
        line for line in errors.splitlines() if not re.search(r"/600 images(, .*)?$|^images taken|^left out", line)
    ]
    assert lines == ["prepare_data.py: stopped; the same command resumes"]
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0, done.stderr
    assert moment == "start" or re.search(r"\d+ finished shards verified", done.stderr)
    assert contents(out) == contents(whole)


def test_a_worker_that_dies(flags, tmp_path):
    process = start(*flags, f"--out_dir={tmp_path}/out")
    next(line for line in iter(process.stderr.readline, "") if "/600 images" in line)  # the workers have begun
    lists = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(number) for path in lists for number in path.read_text().split()]
    if not children:
        process.kill()
        pytest.skip("there is no /proc to find the workers in")
    os.kill(max(children), signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1 and "Traceback" not in errors
    assert "prepare_data.py: expected 2 processes. Received: one that ended by itself" in errors


def test_a_full_disk_keeps_what_is_done(whole, flags, mount, tmp_path):
    (tmp_path / "disk").mkdir()
    small_disk = mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    done = run(*flags, f"--out_dir={small_disk}/out")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr and "what is done is kept, and the same command" in done.stderr
    out = tmp_path / "out"
    shutil.copytree(small_disk / "out", out)
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0 and re.search(r"\d+ finished shards verified", done.stderr)
    assert contents(out) == contents(whole)


def test_inspects_and_repairs(whole, flags, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    done = run(f"--out_dir={out}", "--inspect")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "folder, 96x96x3 (height x width x channels), from image_folder",
        "resize False, split_seed 0, test_fraction 0.1",
    ]
    assert lines[2].split()[:5] == ["split", "images", "files", "MB", "damaged"]
    assert [line.split()[:3] for line in lines[3:5]] == [["train", "544", "9"], ["test", "56", "1"]]
    assert lines[5:] == ["10 files verified", f"written: {out}/contact_sheet.png"]
    with PIL.Image.open(out / "contact_sheet.png") as image:
        # 10 x 10 images of one split above 10 x 6 of the other, with lines between
        assert image.mode == "RGB" and image.size == (10 * 98 - 2, 10 * 98 - 2 + 8 + 6 * 98 - 2)
        first = np.asarray(image)[:SIZE, :SIZE]
    [(_, expected)] = open_images(dataset_info("folder").with_size(SIZE, 3), out, "train").read([0])
    np.testing.assert_array_equal(first, expected)

    path = out / "train-00003-of-00009.array_record"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    done = run(f"--out_dir={out}", "--inspect")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"prepare_data.py: {out}: the command that made it writes the damaged {path.name} again" in done.stderr
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0 and f"written again: {path} is missing or differs" in done.stderr
    assert path.read_bytes() == (whole / path.name).read_bytes()


@pytest.mark.parametrize(
    "extra, message",
    [
        ([], "--dataset: expected a name, or --inspect"),
        (["--dataset=cifar"], "prepare_data.py: data.dataset: expected one of"),
        (["--dataset=folder"], "prepare_data.py: data_dir: expected a folder with folder in one of these forms"),
        (["--dataset=folder", "--data_dir=nowhere"], "data_dir: expected an existing folder"),
        (["--dataset=folder", "--data_dir=SOURCE"], "expected an image of 64x64 (height x width), or resize=True."),
        (["--dataset=cifar10", "--data_dir=EMPTY", "--image_size=64"], "--image_size: cifar10 has 32. Received: 64"),
        (["--dataset=folder", "--download"], "--download: expected --data_dir and a data set that TensorFlow Datasets"),
        (["--dataset=digits", "--test_fraction=1"], "--test_fraction=1.0: expected a fraction between 0 and 1"),
        (["--inspect"], "expected the manifest.json of a prepared data set. Received: none"),
        (["--dataset=folder", "--data_dir=EMPTY", "--out_dir=EMPTY"], "--out_dir: expected another folder than"),
        (["--dataset=digits", "--out_dir=SOURCE/000.bmp"], "SOURCE/000.bmp: expected a folder that can be"),
    ],
)
def test_wrong_flags(source, tmp_path, extra, message):
    (tmp_path / "empty").mkdir()

    def filled(text):
        return text.replace("EMPTY", f"{tmp_path}/empty").replace("SOURCE", str(source))

    done = run(f"--out_dir={tmp_path}/out", *map(filled, extra))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert filled(message) in done.stderr + done.stdout
    assert not list(tmp_path.glob("out/*.array_record"))


def test_damaged_images(source, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for index in range(8):
        shutil.copy(source / f"{index:03}.bmp", folder)
    (folder / "003.bmp").write_bytes(b"damaged")
    flags = ["--dataset=folder", f"--data_dir={folder}", f"--image_size={SIZE}", f"--out_dir={tmp_path}/out"]
    done = run(*flags, "--max_damaged=0")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "prepare_data.py: max_damaged: expected at most 0 damaged images in train. Received: 1" in done.stderr
    done = run(*flags, "--max_damaged=1")
    assert done.returncode == 0 and "damaged image, left out (1 in train): 003.bmp" in done.stderr
    assert re.search(r"^train +6 +1 +\S+ +1 ", done.stdout, re.MULTILINE)
    assert "damaged, left out of train: 003.bmp" in done.stdout
