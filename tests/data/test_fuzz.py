"""Thousands of damaged files of every format: each is an error that names it, or a counted image, or does no harm."""

import collections
import concurrent.futures
import json
import os
import pathlib
import random
import runpy
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.image_set import ImageSet
from nvae_tf.data.prepare import Options, Preparation
from nvae_tf.data.splits import open_images

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parents[1]
SETS = runpy.run_path(str(HERE / "fuzz_sets.py"))
MUTATE = runpy.run_path(str(HERE / "mutations.py"))["mutate_file"]
INFO = dataset_info("folder").with_size(8, 3)
IMAGE = SETS["RGB"]
# More of another first seed: FUZZ_FIRST=5000 FUZZ_COUNT=1000 pytest tests/data/test_fuzz.py
FIRST = int(os.environ.get("FUZZ_FIRST", 0))
COUNT = int(os.environ.get("FUZZ_COUNT", 64))
GOOD_WORDS = {"read", "skip", "error"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    SETS["write_all"](folder)
    return folder


def read_mutants(folder, scratch, first, last, program=str(HERE / "read_mutants.py")):
    """{seed: (word, text)}; a process that ends early leaves the word "died" for its seed."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{HERE}"}
    start = [sys.executable, *([program] if program.endswith(".py") else ["-c", program])]
    outcomes = {}
    while len(outcomes) < last - first:
        command = [*start, str(folder), str(scratch), str(first + len(outcomes)), str(last)]
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=500)
        started = None
        for line in done.stdout.splitlines():
            event, seed, *rest = line.split(" ", 3)
            started = int(seed)
            if event == "end":
                outcomes[started], started = tuple(rest), None
        if started is None:
            assert done.returncode == 0, done.stderr
        else:
            outcomes[started] = "died", f"status {done.returncode}: {done.stderr[-2000:]}"
    return outcomes


def test_there_are_enough():
    assert len(SETS["KINDS"]) * COUNT > 2000


@pytest.mark.slow
def test_mutants(sets, tmp_path):
    kinds = list(SETS["KINDS"])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # each waits for a process
        results = pool.map(lambda kind: read_mutants(sets / kind, tmp_path, FIRST, FIRST + COUNT), kinds)
        results = dict(zip(kinds, results, strict=True))
    bad = [
        f"{kind}, seed {seed}: {' '.join(found)}"
        for kind, outcomes in results.items()
        for seed, found in outcomes.items()
        if found[0] not in GOOD_WORDS
    ]
    assert not bad, f"{len(bad)} of {len(kinds) * COUNT} mutants\n" + "\n".join(bad)
    for kind, outcomes in results.items():
        counts = collections.Counter(word for word, _ in outcomes.values())
        assert sum(counts.values()) == COUNT and counts["read"] < 0.8 * COUNT, (kind, counts)
    assert list(tmp_path.iterdir()) == []


FAULTS = (
    ("os.abort()", "died", "Aborted"),
    ("os.kill(os.getpid(), 11)", "died", "Segmentation fault"),
    ("any(iter(int, 1))", "died", "Timeout"),
    ("len(bytes(1 << 20) * 400)", "memory", "MiB; "),
    ("bytearray(1 << 40)", "failure", "MemoryError"),
    ("{}[0]", "failure", "KeyError"),
    ("raise ValueError('unclear')", "unnamed", "unclear"),
    ("raise ValueError(f'{folder}/x: wrong')", "error", "wrong"),
    ("return 3, 0", "read", "3 read"),
    ("return 3, 1", "skip", "1 left out"),
)


def test_faults_are_seen(sets, tmp_path):
    """Instead of reading a mutant, its process does each of these."""
    lines = [f"    if folder.name == 'idx-{seed}': {body}" for seed, (body, _, _) in enumerate(FAULTS)]
    program = f"""
import os, pathlib, sys, read_mutants
def read(kind, folder):
    if folder.name == "idx": return 1, 0
{os.linesep.join(lines)}
read_mutants.read, read_mutants.SECONDS = read, 3
read_mutants.main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""
    outcomes = read_mutants(sets / "idx", tmp_path, 0, len(FAULTS), program)
    assert [outcomes[seed][0] for seed in range(len(FAULTS))] == [word for _, word, _ in FAULTS]
    for seed, (_, _, text) in enumerate(FAULTS):
        assert text in outcomes[seed][1]


def test_mutants_are_others_and_the_same_again(sets):
    for folder in sorted(sets.iterdir()):
        for name in json.loads((folder / "kind.json").read_text())["targets"]:
            data = (folder / name).read_bytes()
            mutants = [MUTATE(name, data, random.Random(seed)) for seed in (0, 0, 1)]
            assert mutants[0] == mutants[1] != mutants[2] and data != mutants[0], (folder.name, name)


def tree(*folders):
    return {path: path.lstat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def test_zip_that_leads_out_writes_nowhere(tmp_path, monkeypatch):
    """Read, and prepared, with the current folder watched too."""
    for name in ("data/deep", "cwd", "out"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    file = SETS["encoded"](IMAGE)
    (tmp_path / "secret.png").write_bytes(file)
    evil = ["../../evil.png", "../evil.png", f"{tmp_path}/abs/evil.png", "C:\\evil.png", "C:/evil.png", "..\\evil.png"]
    with zipfile.ZipFile(tmp_path / "data" / "deep" / "a.zip", "w") as archive:
        for name in (*evil, "train/../../../evil.png", "train/0.png", "train/1.png", "test/0.png"):
            archive.writestr(name, file)
        link = zipfile.ZipInfo("train/link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, f"{tmp_path}/secret.png")
    before = tree(tmp_path)
    images = ImageSet(open_images(INFO, tmp_path / "data" / "deep", "train"), max_damaged=1).load()
    # What a link names is not an image, and is not followed.
    assert len(images) == 3 and images.damage.indices == {2}
    np.testing.assert_array_equal(images.array[:2], [np.asarray(IMAGE)] * 2)
    assert tree(tmp_path) == before
    manifest = Preparation(INFO, tmp_path / "data" / "deep", tmp_path / "out", Options(), log=lambda line: None).run()
    assert manifest.splits["train"].damaged == ["a.zip, entry train/link.png"]
    names = {"manifest.json", "train-00000-of-00001.tfrecord", "test-00000-of-00001.tfrecord"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    after = {path: when for path, when in tree(tmp_path).items() if path.parent != tmp_path / "out"}
    assert {**after, tmp_path / "out": 0} == {**before, tmp_path / "out": 0}


def prepare(source, out, max_damaged):
    command = [sys.executable, "tools/prepare_data.py", "--dataset=folder", "--image_size=8", f"--data_dir={source}"]
    command += [f"--out_dir={out}", f"--max_damaged={max_damaged}", "--resize", "--num_processes=2"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_folder_with_mutants_is_prepared(tmp_path):
    """The mutants that Pillow alone cannot read are left out and named; one more than allowed is an error."""
    source, damaged = tmp_path / "source", []
    for split, count in (("train", 60), ("test", 5)):
        (source / split).mkdir(parents=True)
        for index in range(count):
            data = SETS["encoded"](IMAGE)
            if split == "train" and index % 2:
                data = MUTATE("x.png", data, random.Random(index))
            path = source / split / f"{index:02}.png"
            path.write_bytes(data)
            try:
                with Image.open(path) as image:
                    image.load()
            except Exception:
                damaged.append(f"{split}/{index:02}.png")
    assert 20 < len(damaged) <= 30
    done = prepare(source, tmp_path / "out", len(damaged))
    assert done.returncode == 0, done.stderr
    assert f"train: {60 - len(damaged)} images in 1 files, {len(damaged)} damaged left out" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["damaged"] == damaged and manifest["splits"]["test"]["damaged"] == []
    assert len(open_images(INFO, tmp_path / "out", "train")) == 60 - len(damaged)
    done = prepare(source, tmp_path / "other", len(damaged) - 1)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    message = f"expected at most {len(damaged) - 1} damaged images in train. Received: {len(damaged)}, the last: "
    assert f"{message}{source}/{damaged[-1]}: expected a PNG" in done.stderr
