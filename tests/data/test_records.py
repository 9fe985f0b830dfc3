"""TFRecord files and Examples, beside TensorFlow's own: whole, damaged and cut short."""

import concurrent.futures
import os
import pickle
import struct
import subprocess
import sys
import time

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.records import RecordFile, RecordFiles, decode_example, encode_example, example_class, write_record

RECORDS = [b"first", b"", bytes(range(256)) * 300, b"last"]


def masked(data):
    """The checksum of a record, by its definition."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def write(path, records=RECORDS):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def change_byte(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_reads_what_tensorflow_writes(tmp_path):
    file = RecordFile(write(tmp_path / "a"))
    assert [file.read(index) for index in range(len(file))] == RECORDS
    assert file.offsets.dtype == file.lengths.dtype == np.int64
    assert file.lengths.tolist() == [5, 0, 76800, 4] and file.offsets.tolist() == [12, 33, 49, 76865]


def test_tensorflow_reads_what_is_written(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        for record in RECORDS:
            write_record(file, record)
    assert list(tf.data.TFRecordDataset(str(tmp_path / "a")).as_numpy_iterator()) == RECORDS
    assert (tmp_path / "a").read_bytes() == write(tmp_path / "b").read_bytes()


def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path):
    path = write(tmp_path / "a")
    change_byte(path, 49 + 1000)
    file = RecordFile(path)
    with pytest.raises(DamagedImageError, match=rf"^{path}, record 2: expected data with their checksum"):
        file.read(2)
    assert [file.read(index) for index in (0, 1, 3)] == [RECORDS[0], RECORDS[1], RECORDS[3]]


@pytest.mark.parametrize("position", [21, 29])  # of the second record: its length, and the length's checksum
def test_a_damaged_length_damages_the_file(tmp_path, position):
    path = write(tmp_path / "a")
    change_byte(path, position)
    with pytest.raises(ValueError, match=rf"^{path}: record 1, byte 21: expected a length with its checksum"):
        RecordFile(path)


@pytest.mark.parametrize("size, record, start", [(3, 0, 0), (11, 0, 0), (20, 0, 0), (30, 1, 21), (36, 1, 21)])
def test_a_file_that_is_cut_short(tmp_path, size, record, start):
    path = write(tmp_path / "a")
    os.truncate(path, size)
    message = rf"^{path}: record {record}, byte {start}: expected a whole record. Received: the file's end after {size}"
    with pytest.raises(ValueError, match=message):
        RecordFile(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40])
def test_a_length_that_claims_too_much_takes_no_memory(tmp_path, length):
    header = struct.pack("<Q", length)
    (tmp_path / "a").write_bytes(header + masked(header) + bytes(100))
    with pytest.raises(ValueError, match="record 0, byte 0: expected a whole record"):
        RecordFile(tmp_path / "a")


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "a").touch()
    assert len(RecordFile(tmp_path / "a")) == 0


def test_files_are_one_sequence_from_threads_and_processes(tmp_path):
    paths = [write(tmp_path / str(number), [b"%d" % (10 * number + i) for i in range(number)]) for number in range(4)]
    expected = [b"10", b"20", b"21", b"30", b"31", b"32"]
    for files in (RecordFiles(paths), RecordFiles(paths, [0, 1, 2, 3])):
        assert len(files) == 6
        assert files.name(2) == f"{tmp_path}/2, record 1"
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(files.read, list(range(6)) * 20)) == expected * 20
        copy = pickle.loads(pickle.dumps(files))
        assert [copy.read(index) for index in range(6)] == expected
        for index in (-1, 6):
            with pytest.raises(IndexError, match=f"expected one of 6 records. Received: {index}"):
                files.read(index)


def test_another_number_of_records_than_promised(tmp_path):
    files = RecordFiles([write(tmp_path / "a")], [3])
    with pytest.raises(ValueError, match=r"/a: expected 3 records. Received: 4"):
        files.read(0)


def test_more_files_than_descriptors(tmp_path):
    paths = [write(tmp_path / str(number), [b"%d" % number]) for number in range(400)]
    files = RecordFiles(paths)
    assert [files.read(index) for index in range(400)] == [b"%d" % number for number in range(400)]
    if os.path.isdir("/proc/self/fd"):
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        files_open = [link for link in links if os.path.lexists(link) and str(tmp_path) in os.readlink(link)]
        assert len(files_open) <= 256


def test_a_million_records_are_found_within_seconds(tmp_path):
    header = struct.pack("<Q", 40)
    (tmp_path / "a").write_bytes((header + masked(header) + bytes(40) + masked(bytes(40))) * 1_000_000)
    start = time.perf_counter()
    file = RecordFile(tmp_path / "a")
    assert time.perf_counter() - start < 5.0  # a second, with room for a busy machine
    assert len(file) == 1_000_000 and file.read(999_999) == bytes(40)


def tensorflow_example(values):
    features = {
        "bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=values["bytes"])),
        "ints": tf.train.Feature(int64_list=tf.train.Int64List(value=values["ints"])),
        "floats": tf.train.Feature(float_list=tf.train.FloatList(value=values["floats"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def test_reads_an_example_of_tensorflow():
    values = {"bytes": [b"\x00\xff", b""], "ints": [-1, 2**63 - 1, 0], "floats": [0.5, -2.0]}
    features = decode_example(tensorflow_example(values).SerializeToString(), "a")
    assert sorted(features) == ["bytes", "floats", "ints"]
    assert list(features["bytes"].bytes_list.value) == values["bytes"]
    assert list(features["ints"].int64_list.value) == values["ints"]
    assert list(features["floats"].float_list.value) == values["floats"]
    assert features["ints"].WhichOneof("kind") == "int64_list"


def test_tensorflow_reads_an_example():
    data = encode_example({"z": b"\x00png", "a": -7, "m": 2**40})
    features = tf.train.Example.FromString(data).features.feature
    assert sorted(features) == ["a", "m", "z"]
    assert list(features["z"].bytes_list.value) == [b"\x00png"]
    assert list(features["a"].int64_list.value) == [-7] and list(features["m"].int64_list.value) == [2**40]
    assert data == encode_example({"m": 2**40, "a": -7, "z": b"\x00png"})
    assert example_class().DESCRIPTOR.full_name == tf.train.Example.DESCRIPTOR.full_name


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\x0a\x7f", b"not an example"])
def test_other_bytes_are_no_example(data):
    with pytest.raises(DamagedImageError, match=f"^a, record 3: expected a tf.train.Example. Received: {len(data)}"):
        decode_example(data, "a, record 3")


def test_needs_no_tensorflow():
    code = "import sys, nvae_tf.data.prepare as p, nvae_tf.data.records as r; r.example_class(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nvae_tf.data.prepare" in loaded and "tensorflow" not in loaded and "keras" not in loaded
