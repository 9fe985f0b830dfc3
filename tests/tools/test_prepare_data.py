"""prepare_data.py as a program: real images, every way of being stopped, a full disk, and looking at what it made."""

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
    """The program in a group of processes of its own, as on a terminal."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *flags], start_new_session=True, **streams)


def run(*flags):
    return subprocess.run([*PROGRAM, *flags], capture_output=True, text=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Folder of 600 images without a split, a second's work."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        PIL.Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(folder / f"{index:03}.bmp")
    return folder


@pytest.fixture(scope="module")
def flags(source):
    sizes = [f"--image_size={SIZE}", "--images_per_shard=20", "--num_processes=2"]
    return ["--dataset=folder", f"--data_dir={source}", *sizes]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """Folder of the run that nobody stopped. No test may change it."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    done = run(*flags, f"--out_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def test_real_images_of_cifar10(shared_data, tmp_path):
    expected = {}
    for split, name, count in (("train", "data_batch_1.bin", 600), ("test", "test_batch.bin", 150)):
        data = (shared_data / "cifar-10-batches-bin" / name).read_bytes()[: count * 3073]
        (tmp_path / "cifar").mkdir(exist_ok=True)
        (tmp_path / "cifar" / name).write_bytes(data)
        expected[split] = np.frombuffer(data, np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
    out = tmp_path / "deep" / "out"
    done = run("--dataset=cifar10", f"--data_dir={tmp_path}/cifar", f"--out_dir={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "train: 600 images in 3 files, 0 damaged left out",
        "test: 150 images in 1 files, 0 damaged left out",
        f"complete: {out}",
    ]
    assert "750/750 images" in done.stderr
    for split, images in expected.items():
        store = open_images(dataset_info("cifar10"), out, split)
        received = np.stack([store.read(index) for index in range(len(store))])
        np.testing.assert_array_equal(received, images.transpose(0, 2, 3, 1))


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_with_the_uninterrupted_bytes(whole, flags, tmp_path):
    out, moments, killed = tmp_path / "out", random.Random(0), 0
    for attempt in range(10):
        process = start(*flags, f"--out_dir={out}")
        time.sleep(moments.uniform(0.1, 0.7))
        if process.poll() == 0:  # it was done; it starts from nothing again
            assert contents(out) == contents(whole)
            shutil.rmtree(out)
        else:
            killed += 1
            # The whole group, or the parent alone: the others must end by themselves.
            os.kill(process.pid, signal.SIGKILL) if attempt % 2 else os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)  # up to the end of the last process that holds the streams
    assert killed >= 5
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("moment", ["start", "work"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_says_so_and_the_same_command_goes_on(whole, flags, tmp_path, number, moment):
    out = tmp_path / "out"
    process = start(*flags, f"--out_dir={out}")
    if moment == "work":
        assert re.fullmatch(r"\d+/600 images\n", process.stderr.readline())
    while not (out / ".progress" / "plan.json").exists():  # then its processes start
        time.sleep(0.01)
    time.sleep(0.05)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75, errors
    message = f"prepare_data.py: {number.name}: stopped; the same command goes on with what is done"
    assert [line for line in errors.splitlines() if not line.endswith("/600 images")] == [message]
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0, done.stderr
    assert moment == "start" or re.search(r"\d+ of 30 shards are there already, verified", done.stderr)
    assert contents(out) == contents(whole)


def test_a_worker_that_dies(flags, tmp_path):
    process = start(*flags, f"--out_dir={tmp_path}/out")
    process.stderr.readline()
    lists = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(number) for path in lists for number in path.read_text().split()]
    if not children:
        process.kill()
        pytest.skip("there is no /proc to find the workers in")
    os.kill(max(children), signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1 and "Traceback" not in errors
    assert "a process has died" in errors and "the same command goes on, with fewer --num_processes" in errors


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small file system with")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_with_a_message_and_keeps_what_is_done(whole, flags, small_disk, tmp_path):
    done = run(*flags, f"--out_dir={small_disk}/out")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device; what is done is kept, and the same command goes on when" in done.stderr
    out = tmp_path / "out"
    shutil.copytree(small_disk / "out", out)
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0 and re.search(r"\d+ of 30 shards are there already, verified", done.stderr)
    assert contents(out) == contents(whole)


def test_inspects_and_mends(whole, flags, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    done = run(f"--out_dir={out}", "--inspect")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "folder, 96x96x3 (height x width x channels), from image_folder"
    assert lines[1] == "resize False, split_seed 0, test_fraction 0.1, images_per_shard 20"
    assert lines[3].split()[:5] == ["split", "images", "files", "MB", "damaged"]
    assert [line.split()[:3] for line in lines[4:6]] == [["train", "540", "27"], ["test", "60", "3"]]
    assert lines[6:] == ["30 files verified", f"written: {out}/contact_sheet.png"]
    with PIL.Image.open(out / "contact_sheet.png") as image:
        # 10 x 10 images of one split above 10 x 6 of the other, with lines between
        assert image.mode == "RGB" and image.size == (10 * 98 - 2, 10 * 98 - 2 + 8 + 6 * 98 - 2)
        first = np.asarray(image)[:SIZE, :SIZE]
    np.testing.assert_array_equal(first, open_images(dataset_info("folder").with_size(SIZE, 3), out, "train").read(0))

    path = out / "train-00003-of-00027.tfrecord"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    done = run(f"--out_dir={out}", "--inspect")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{path}: expected SHA-256" in done.stderr
    done = run(*flags, f"--out_dir={out}")
    assert done.returncode == 0 and f"written again: {path}: expected SHA-256" in done.stderr
    assert path.read_bytes() == (whole / path.name).read_bytes()


@pytest.mark.parametrize(
    "extra, message",
    [
        ([], "--dataset: expected a name, or --inspect"),
        (["--dataset=cifar"], "prepare_data.py: --dataset: expected one of"),
        (["--dataset=folder"], "prepare_data.py: --data_dir: expected a folder with folder in one of these forms"),
        (["--dataset=folder", "--data_dir=nowhere"], "--data_dir: expected an existing folder"),
        (["--dataset=folder", "--data_dir=EMPTY"], "in one of these forms. Received: EMPTY holds nothing"),
        (["--dataset=folder", "--data_dir=SOURCE"], "expected an image of 64x64 (height x width), or --resize."),
        (["--dataset=cifar10", "--data_dir=EMPTY", "--image_size=64"], "--image_size: cifar10 has 32. Received: 64"),
        (["--dataset=cifar10", "--data_dir=EMPTY", "--channels=1"], "--channels: cifar10 has 3. Received: 1"),
        (
            ["--dataset=folder", "--download"],
            "--download: expected a data set of TensorFlow Datasets. ",
        ),
        (["--dataset=digits", "--test_fraction=1"], "--test_fraction=1.0: expected a fraction between 0 and 1"),
        (["--dataset=digits", "--num_processes=0"], "--num_processes=0"),
        (["--dataset=digits", "--channels=2"], "--channels=2"),
        (["--dataset=digits", "more"], "expected flags only. Received: ['more']"),
        (["--inspect"], "expected the manifest.json of a prepared data set. Received: none"),
        (
            ["--dataset=folder", "--data_dir=EMPTY", "--out_dir=EMPTY"],
            "--out_dir: expected another folder than",
        ),
        (["--dataset=digits", "--out_dir=SOURCE/000.bmp"], "expected a folder, or a new name"),
    ],
)
def test_wrong_flags(source, tmp_path, extra, message):
    (tmp_path / "empty").mkdir()

    def filled(text):
        return text.replace("EMPTY", f"{tmp_path}/empty").replace("SOURCE", str(source))

    done = run(f"--out_dir={tmp_path}/out", *map(filled, extra))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert filled(message) in done.stderr + done.stdout
    assert not list(tmp_path.glob("out/*.tfrecord"))


def test_too_many_damaged_images_name_the_flag(source, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for index in range(8):
        shutil.copy(source / f"{index:03}.bmp", folder)
    (folder / "003.bmp").write_bytes(b"damaged")
    flags = ["--dataset=folder", f"--data_dir={folder}", f"--image_size={SIZE}", f"--out_dir={tmp_path}/out"]
    done = run(*flags, "--max_damaged=0")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "prepare_data.py: --max_damaged: expected at most 0 damaged images in train. Received: 1" in done.stderr
    done = run(*flags, "--max_damaged=1")
    assert done.returncode == 0 and f"damaged image, left out (1 in train): {folder}/003.bmp" in done.stderr
    assert "train: 6 images in 1 files, 1 damaged left out" in done.stdout
    assert "damaged, left out of train: 003.bmp" in run(f"--out_dir={tmp_path}/out", "--inspect").stdout
