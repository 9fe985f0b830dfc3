import dataclasses
import pickle
import random
import shutil

import numpy as np
import pytest

from nvae_tf.checkpoint import RunFolder
from nvae_tf.compression.chunk_coder import DifferentArithmeticError
from nvae_tf.compression.levels import to_levels
from nvae_tf.compression.nvz_file import read_chunks
from nvae_tf.config import Config
from nvae_tf.files import only_writer
from nvae_tf.runs import compression
from nvae_tf.runs.compression import RunCoder, compress, decompress
from tests import tiny


@pytest.fixture(scope="module")
def coder(digits_run):
    """`RunCoder` of the tiny digits model."""
    return RunCoder(digits_run)


@pytest.fixture(scope="module")
def pixels():
    """Black and white images, uint8 [10, 16, 16]."""
    return np.random.default_rng(0).integers(2, size=(10, 16, 16)).astype(np.uint8) * np.uint8(255)


@pytest.fixture(scope="module")
def levels(coder, pixels):
    return to_levels(pixels, coder.model.model_config, "pixels")[0]


@pytest.fixture(scope="module")
def header(coder, levels, pixels):
    """That of three chunks, of which the last has two images."""
    return coder.header(levels, pixels.shape, 255, steps=32, batch_size=4, chunk_images=4)


@pytest.fixture(scope="module")
def written(coder, levels, header, tmp_path_factory):
    """(.nvz file of `pixels`, `Statistics`). Shared: tests must not change it."""
    path = tmp_path_factory.mktemp("written") / "x.nvz"
    return path, compress(levels, path, coder, header)


def _restored(source, folder, coder, chunks=None):
    decompress(source, read_chunks(source, chunks), folder / "back.npy", coder)
    return np.load(folder / "back.npy")


def test_every_pixel_comes_back(written, coder, pixels, tmp_path):
    back = _restored(written[0], tmp_path, coder)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["back.npy"]
    assert written[1].num_images == 10


def test_chunks_are_decoded_by_themselves(written, coder, pixels, tmp_path):
    np.testing.assert_array_equal(_restored(written[0], tmp_path, coder, chunks=[0, 2]), pixels[[0, 1, 2, 3, 8, 9]])
    with pytest.raises(ValueError, match="--chunks: expected numbers below 3. Received: 3"):
        decompress(written[0], read_chunks(written[0], [3]), tmp_path / "y.npy", coder)


def _count_calls(monkeypatch, name):
    calls, call = [], getattr(compression, name)
    monkeypatch.setattr(compression, name, lambda *arguments: calls.append(arguments) or call(*arguments))
    return calls


@pytest.mark.parametrize("left", ["nothing", "a part", "another file", "more"])
def test_compression_goes_on(written, coder, levels, header, tmp_path, monkeypatch, left):
    content, path, partial = written[0].read_bytes(), tmp_path / "x.nvz", tmp_path / "x.nvz.partial"
    second = len(header.to_bytes()) + len(read_chunks(written[0])[1][0].to_bytes(header, 0))
    parts = {"nothing": b"", "a part": content[: second + 40], "another file": bytes(1000), "more": content + b"x"}
    partial.write_bytes(parts[left])
    calls = _count_calls(monkeypatch, "_compress_chunk")
    compress(levels, path, coder, header)
    assert len(calls) == {"a part": 2, "more": 0}.get(left, 3)
    assert path.read_bytes() == content
    assert not partial.exists()


def test_compression_of_other_images_does_not_go_on(written, coder, levels, header, tmp_path, monkeypatch):
    shutil.copy(written[0], tmp_path / "x.nvz.partial")
    calls = _count_calls(monkeypatch, "_compress_chunk")
    others = levels.copy()
    others[5] = 1 - others[5]
    compress(others, tmp_path / "x.nvz", coder, header)
    assert len(calls) == 2
    np.testing.assert_array_equal(_restored(tmp_path / "x.nvz", tmp_path, coder), 255 * others[..., 0])


def test_decompression_goes_on(written, coder, pixels, tmp_path, monkeypatch):
    _restored(written[0], tmp_path, coder)
    content = (tmp_path / "back.npy").read_bytes()
    (tmp_path / "back.npy.partial").write_bytes(content[: -3 * 256])  # without one image of the second chunk
    calls = _count_calls(monkeypatch, "_decompress_chunk")
    np.testing.assert_array_equal(_restored(written[0], tmp_path, coder), pixels)
    assert len(calls) == 2


def test_decompression_does_not_go_on_from_other_pixels(written, coder, pixels, tmp_path):
    _restored(written[0], tmp_path, coder)
    content = (tmp_path / "back.npy").read_bytes()
    head = len(content) - pixels.size
    # 100 // 255 is the level of 0 too.
    (tmp_path / "back.npy.partial").write_bytes(content[:head] + content[head:].replace(b"\0", b"d"))
    np.testing.assert_array_equal(_restored(written[0], tmp_path, coder), pixels)


def test_two_processes_write_the_same_file(digits_run, levels, coder, header, written, tmp_path, monkeypatch):
    tasks = []

    def in_turn(function, shared, given, num_processes):
        tasks.extend(given)
        function, shared, given = pickle.loads(pickle.dumps((function, shared, given)))
        return (function(shared, task) for task in given)

    # Not in processes, of which each would load the model.
    monkeypatch.setattr(compression, "map_in_processes", in_turn)
    monkeypatch.setattr(compression, "RunCoder", lambda *arguments: coder if arguments == coder.arguments else None)
    compress(levels, tmp_path / "x.nvz", coder, header, num_processes=2)
    assert (tmp_path / "x.nvz").read_bytes() == written[0].read_bytes()
    assert len(tasks) == 3


def test_another_model_is_named(written, tmp_path_factory, coder, monkeypatch, tmp_path):
    header = read_chunks(written[0])[0]
    for name, what in (("weights", "weights have"), ("config", "configuration has")):
        monkeypatch.setattr(coder, "sums", coder.sums | {name: "1" * 64})
        message = f"x.nvz: expected the model that it was written with, whose {what} the SHA-256"
        with pytest.raises(ValueError, match=message):
            decompress(written[0], read_chunks(written[0]), tmp_path / "x.npy", coder)
        monkeypatch.undo()
    assert coder.sums == {"weights": header.weights, "config": header.config}


def test_images_of_another_shape_are_refused(written, coder):
    header = dataclasses.replace(read_chunks(written[0])[0], shape=[10, 16, 15])
    with pytest.raises(ValueError, match=r"x.nvz: expected images of \[16, 16, 1\]. Received: \[16, 15\]"):
        coder.check("x.nvz", header)


@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_other_arithmetic_names_the_chunk(written, coder, tmp_path, change):
    bias = coder.model.groups[1].prior_head.bias
    before = bias.numpy()
    bias.assign(before + change)
    try:
        message = "x.nvz: chunk 0: expected images with its checksum. Received: .*this machine or its software"
        with pytest.raises(DifferentArithmeticError, match=message):
            decompress(written[0], read_chunks(written[0]), tmp_path / "x.npy", coder)
    finally:
        bias.assign(before)
    assert not (tmp_path / "x.npy").exists()


def test_a_chunk_that_is_not_decoded_to_its_images_is_not_written(coder, levels, header, tmp_path, monkeypatch):
    chunk_coder, calls = coder.coder(header.settings), []
    decode = chunk_coder.decompress

    def decode_wrongly(words, count, first):
        calls.append(first)
        return decode(words, count, first) ^ (first == 4)

    monkeypatch.setattr(chunk_coder, "decompress", decode_wrongly)
    with pytest.raises(DifferentArithmeticError, match="x.nvz: chunk 1: expected the same images when it is decoded"):
        compress(levels, tmp_path / "x.nvz", coder, header)
    assert calls == [0, 4]
    assert not (tmp_path / "x.nvz").exists()
    calls.clear()
    compress(levels, tmp_path / "y.nvz", coder, header, verify=False)
    assert calls == []


def test_a_full_disk_is_named_and_compression_goes_on(small_disk, coder, levels, header, written):
    (small_disk / "other").write_bytes(bytes(2**19 - 2**13 - 2**12))
    many = np.concatenate([levels] * 40)
    large = coder.header(many, many.shape, 255, 32, 4, chunk_images=100)
    with pytest.raises(OSError, match="x.nvz.partial: expected to write it. Received: No space"):
        compress(many, small_disk / "x.nvz", coder, large, verify=False)
    (small_disk / "other").unlink()
    done = compress(many, small_disk / "x.nvz", coder, large, verify=False)
    assert done.num_images < 400
    assert len(read_chunks(small_disk / "x.nvz")[1]) == 4


def test_one_process_writes_a_file(coder, levels, header, tmp_path):
    with only_writer(tmp_path, "x.nvz.lock"):
        with pytest.raises(ValueError, match="x.nvz: .*process"):
            compress(levels, tmp_path / "x.nvz", coder, header)


@pytest.mark.parametrize("fields", [{"num_flows": 1}, {"likelihood": "normal"}], ids=lambda fields: next(iter(fields)))
def test_models_that_cannot_be_compressed_with_are_refused(fields, tmp_path):
    (name,) = fields
    with pytest.raises(ValueError, match=f"model.{name}: expected"):
        RunCoder(RunFolder(tmp_path).create(Config(model=tiny.model_config(**fields))).path)


def mutations(content, count, seed=0):
    """Yields changed copies of bytes: some of them flipped, replaced, cut out, doubled or cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        first, size = rng.randrange(len(content)), rng.choice([1, 1, 1, 4, 16, 100])
        part = content[first : first + size]
        changes = [
            bytes([part[0] ^ 1 << rng.randrange(8)]) + part[1:],
            rng.randbytes(len(part)),
            bytes(len(part)),
            b"",
            part + part,
        ]
        changed = content[:first] + rng.choice(changes) + content[first + size :]
        yield changed if rng.random() < 0.9 else content[:first]


def test_changed_files_give_an_error_or_the_images(written, coder, pixels, tmp_path):
    content, path = written[0].read_bytes(), tmp_path / "x.nvz"
    for changed in mutations(content, 50):
        path.write_bytes(changed)
        try:
            back = _restored(path, tmp_path, coder)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(back, pixels)
