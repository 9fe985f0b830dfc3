"""The manifest of a prepared data set: written, read, and wrong in every way."""

import hashlib
import json

import pytest

from nvae_tf.data.manifest import Manifest, Shard, Split, find_faults, read_manifest, write_manifest

SHARD = Shard("train-00000-of-00001.tfrecord", 3, 5, hashlib.sha256(b"12345").hexdigest())
MANIFEST = Manifest(
    dataset="cifar10",
    source="cifar",
    image_height=32,
    image_width=32,
    channels=3,
    resize=False,
    split_seed=0,
    test_fraction=0.1,
    images_per_shard=256,
    splits={"train": Split(3, ["a\udc80.png"], [1.5, 2.0, 0.1], [SHARD])},
)


@pytest.fixture
def values(tmp_path):
    """Function that writes MANIFEST after it has been changed by a function of its JSON."""

    def write(change):
        write_manifest(tmp_path, MANIFEST)
        content = json.loads((tmp_path / "manifest.json").read_text())
        change(content)
        (tmp_path / "manifest.json").write_text(json.dumps(content))

    return write


def test_is_read_as_it_was_written(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert MANIFEST.shards() == [SHARD]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_holds_nothing_of_the_machine(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    text = (tmp_path / "manifest.json").read_text()
    assert json.loads(text)["format"] == "nvae_tf prepared images" and json.loads(text)["version"] == 1
    assert str(tmp_path) not in text


def test_there_is_none(tmp_path):
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "webpack"}', '"nvae"', "[" * 100_000, "\x00\xff"])
def test_that_of_another_program(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path) is None


def test_cut_short(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=rf"^{path}: expected JSON. Received: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.update(version=2), "version: expected 1. Received: 2"),
        (lambda m: m.pop("channels"), r"expected the fields \['channels', 'dataset', .*Received: \['dataset'"),
        (lambda m: m.update(more=1), "expected the fields"),
        (lambda m: m.update(image_height="32"), "image_height: expected int, not negative. Received: '32'"),
        (lambda m: m.update(image_height=-1), "image_height: expected int, not negative. Received: -1"),
        (lambda m: m.update(channels=True), "channels: expected int, not negative. Received: True"),
        (lambda m: m.update(resize=0), "resize: expected bool"),
        (lambda m: m.update(splits=[]), r"splits: expected dict, not negative. Received: \[\]"),
        (lambda m: m["splits"].update(train=3), r"splits.train: expected the fields .* Received: 3"),
        (lambda m: m["splits"]["train"].update(num_images=4), "splits.train: num_images: expected 3, the sum"),
        (lambda m: m["splits"]["train"].update(mean=["x"]), r"splits.train: mean: expected numbers"),
        (lambda m: m["splits"]["train"]["shards"].append(7), r"splits.train.shards\[1\]: expected the fields"),
    ],
)
def test_wrong_fields(tmp_path, values, change, message):
    values(change)
    with pytest.raises(ValueError, match=message) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "manifest.json"))


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "a/b", "", "..", "."])
def test_files_outside_the_folder(tmp_path, values, file):
    values(lambda m: m["splits"]["train"]["shards"][0].update(file=file))
    with pytest.raises(ValueError, match=r"shards\[0\]: file: expected the name of a file in the folder. Received: '"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content, fault",
    [
        (b"12345", None),
        (b"1234", "expected 5 bytes. Received: 4"),
        (b"12346", f"expected SHA-256 {SHARD.sha256}. Received: {hashlib.sha256(b'12346').hexdigest()}"),
        (None, "expected a file. Received: none"),
    ],
)
def test_faults_of_files(tmp_path, content, fault):
    path = tmp_path / SHARD.file
    if content is not None:
        path.write_bytes(content)
    assert find_faults(tmp_path, [SHARD], 2) == ({SHARD.file: f"{path}: {fault}"} if fault else {})
