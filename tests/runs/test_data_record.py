"""A run knows its data: what training records, and what programs refuse afterwards."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from nvae_tf.checkpoint import RunFolder
from nvae_tf.config import Config, ConfigError, DataConfig, ModelConfig
from nvae_tf.data.prepare import Preparation
from nvae_tf.runs import prepare as prepare_run
from nvae_tf.runs.data import check_data, load_images, open_split
from nvae_tf.runs.data_record import DataRecord, check_same_data
from nvae_tf.runs.interruption import Interruption

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
SPLITS = ("train", "validation", "test")


def write_folder(folder, pixels=PIXELS, name="{:02}.png", **options):
    folder.mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / name.format(number), **options)
    return folder


def write_zip(path, folder, top=""):
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            archive.write(file, top + file.name)
    return path.parent


def make_config(**data):
    data = DataConfig(dataset="folder", validation_images=5, **data)
    return Config(
        data=data, model=ModelConfig(image_height=8, image_width=8, image_channels=3, likelihood="logistic_mixture")
    )


DEFAULT = make_config()


def load(run, folder, splits=SPLITS, config=None, cache_dir=None, max_images=0, step=None, **options):
    """Loads splits as a program does; a training run writes the record at a step. Returns the record."""
    record = DataRecord(run, **options)
    for split in splits:
        load_images(config or DEFAULT, folder, split, max_images, cache_dir, record)
    if step is not None:
        record.write(step)
        (run / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
    return record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def run(folder, tmp_path):
    """Run folder whose training has saved step 4."""
    (tmp_path / "run").mkdir()
    load(tmp_path / "run", folder, training=True, step=4)
    return tmp_path / "run"


def test_the_same_images_in_any_form_are_the_runs(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.processes.num_cores", lambda: 1)
    others = [
        write_folder(tmp_path / "compressed", compress_level=0),
        write_folder(tmp_path / "bmp", name="{:02}.bmp"),
        write_zip(tmp_path / "a" / "all.zip", folder),
        write_zip(tmp_path / "b" / "images.zip", folder, "images/"),
    ]
    for other in others:
        load(run, other)
        load(run, other, max_images=2)
    load(run, folder, config=make_config(cache_gib=0), cache_dir=tmp_path / "cache")
    (prepared,) = (tmp_path / "cache").iterdir()
    load(run, prepared)
    load(run, prepared, config=make_config(cache_gib=0), max_images=3)


def more(folder):
    Image.fromarray(PIXELS[0]).save(folder / "new.png")


def fewer(folder):
    for name in ("03.png", "07.png", "10.png"):
        (folder / name).unlink()


def other_pixels(folder):
    for path in folder.iterdir():
        Image.new("RGB", (8, 8)).save(path)


def other_names(folder):
    for path in folder.iterdir():
        path.rename(path.with_name("x" + path.name))


@pytest.mark.parametrize("change", [more, fewer, other_pixels, other_names])
def test_other_images_are_refused_with_both_counts_and_the_way_on(run, folder, tmp_path, change, caplog):
    changed = shutil.copytree(folder, tmp_path / "changed")
    change(changed)
    refused, before = [], json.loads((run / "data.json").read_text())["splits"]
    for split in SPLITS:
        for max_images in (0, 2):
            try:
                load(run, changed, [split], max_images=max_images)
            except ValueError as error:
                refused.append(split)
                now = len(open_split(DEFAULT, changed, split))
                assert f"--data_dir: expected the {before[split]['num_images']} {split} images of {run}" in str(error)
                assert f"Received: {now}" in str(error) and "--accept_changed_data takes them" in str(error)
    assert refused and len(refused) == 2 * len(set(refused))  # the first images stand for the whole split
    record = load(run, changed, training=True, accept_changed=True, step=6)
    assert set(record.changed) == set(refused) and caplog.text.count("accepted: ") == len(set(refused))
    changes = json.loads((run / "data.json").read_text())["changes"]
    assert [(entry["step"], entry["before"]) for entry in changes] == [(6, before[s]) for s in SPLITS if s in refused]
    load(run, changed)


def test_a_few_images_are_not_compared_by_reading_all(run, folder, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.image_set.read_fingerprint", None)
    load(run, folder, max_images=2)


def test_a_run_without_a_record_warns_once_and_training_writes_it(run, folder, caplog):
    (run / "data.json").unlink()
    load(run, folder)
    assert caplog.text.count("data.json: expected") == 1 and not (run / "data.json").exists()
    load(run, folder, training=True, step=6)
    load(run, folder)
    assert caplog.text.count("data.json: expected") == 2


def test_before_the_first_checkpoint_the_images_may_change(run, folder, tmp_path):
    shutil.rmtree(run / "checkpoints")
    load(run, write_folder(tmp_path / "others", PIXELS[:30]), training=True, step=2)


PROGRAMS = {
    "evaluate": [],
    "encode": ["--out={run}/latents.npz"],
    "reconstruct": ["--num=2"],
    "report": [],
    "interpolate": ["--images=0,1"],
    "traverse": ["--images=0", "--scale=0"],
    "train": None,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_compares(name, digits_run, tmp_path, program, monkeypatch):
    run = shutil.copytree(digits_run, tmp_path / "run")
    split = "train" if name == "train" else "test"
    entry = {"num_images": 17, "fingerprint": "0", "files": ""}
    (run / "data.json").write_text(json.dumps({"splits": {split: entry}, "changes": []}))
    with pytest.raises(ValueError, match=rf"expected the 17 {split} images of {run}. Received: \d+; --accept_changed"):
        if name == "train":
            prepare_run.prepare(RunFolder(run).config, run, None, Interruption())
        else:
            arguments = [argument.format(run=run) for argument in PROGRAMS[name]]
            tool = program(name, f"--run_dir={run}", *arguments)
            tool.main([]) if name == "report" else tool.main()


def test_another_rule_of_the_split_is_refused(digits_run, folder, tmp_path):
    config = RunFolder(digits_run).config
    config.data.split_rule = "permutation"
    with pytest.raises(ConfigError, match="data.split_rule: expected 'name'. Received: 'permutation'"):
        prepare_run.prepare(config, digits_run, None, Interruption())
    info = check_data(DEFAULT)
    Preparation(info, folder, log=str).run(tmp_path / "out")
    assert len(open_split(DEFAULT, tmp_path / "out", "test")) > 0
    with pytest.raises(ValueError, match="split_rule: expected 'permutation', as in the run. Received: 'name'; prep"):
        open_split(make_config(split_rule="permutation"), tmp_path / "out", "test")
    with pytest.raises(ValueError, match="split_rule: expected 'permutation', as requested now. Received: 'name'"):
        Preparation(info, folder, DataConfig(split_rule="permutation"), log=str).run(tmp_path / "out")


def test_runs_with_the_same_images_compare(tmp_path):
    def write(name, config, splits):
        run = RunFolder(tmp_path / name).create(config)
        if splits:
            entries = {
                split: {"num_images": 10, "fingerprint": value, "files": name} for split, value in splits.items()
            }
            (run.path / "data.json").write_text(json.dumps({"splits": entries, "changes": []}))
        return run.path, config

    def check(*runs):
        check_same_data(*zip(*runs, strict=True), "test")

    def config(padding=0, **data):
        model = ModelConfig(image_height=28 + 2 * padding, image_width=28 + 2 * padding, padding=padding)
        return Config(model=model, data=DataConfig(dataset="mnist", **data))

    first = write("first", config(binarize=True), {"train": "aa", "test": "bb"})
    # The record counts, not the fields that led to the same images; padding does not count.
    check(first, write("same", config(2, binarize=True, split_seed=3), {"train": "aa", "test": "bb"}))
    check(first, write("unknown", config(binarize=True), None))
    for name, other, splits, message in (
        ("test", config(binarize=True), {"train": "aa", "test": "cc"}, "test images: expected 10 .* bb, .* 10 .* cc"),
        ("train", config(binarize=True), {"train": "ac", "test": "bb"}, "train images: expected 10 .* aa, .* 10 .* ac"),
        ("grey", config(), {"train": "aa", "test": "bb"}, "binarize: expected True, .* Received: False"),
        ("seed", config(binarize=True, split_seed=3), None, "split_seed: expected 0, .* Received: 3"),
    ):
        run = write(name, other, splits)
        with pytest.raises(ValueError, match=message):
            check(first, run)
