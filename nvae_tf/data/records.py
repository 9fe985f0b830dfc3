"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

A record is its length (uint64), the masked CRC-32C of these eight bytes, its data and the masked CRC-32C of the data;
all numbers are little-endian. Nothing but the lengths says where a record begins, so that a wrong one, or a file that
is cut short, damages the whole file; wrong data damage one record.
"""

import array
import bisect
import functools
import itertools
import mmap
import os
import struct

import google_crc32c
import numpy as np

from nvae_tf.data.decode import DamagedImageError

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = _CRC.size
# Every open map holds a file descriptor, of which a process may have 1,024.
_MAX_OPEN_FILES = 256


def _masked_crc(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(file, data):
    """Writes one record.

    Args:
        file: binary file, or anything else with `write`.
        data: bytes.
    """
    length = _LENGTH.pack(len(data))
    file.write(b"".join((length, _CRC.pack(_masked_crc(length)), data, _CRC.pack(_masked_crc(data)))))


def _scan(data, size, path):
    offsets, lengths = array.array("q"), array.array("q")
    add_offset, add_length, unpack, header = offsets.append, lengths.append, _HEADER.unpack_from, _HEADER.size
    position = 0
    while position < size:
        length, crc = unpack(data, position) if position + header <= size else (0, None)
        if crc is not None and _masked_crc(data[position : position + 8]) != crc:
            raise ValueError(
                f"{path}: record {len(offsets)}, byte {position}: expected a length with its checksum. "
                f"Received: length {length}, which is damaged"
            )
        start = position + header
        position = start + length + _FOOTER_BYTES
        if crc is None or position > size:
            raise ValueError(
                f"{path}: record {len(offsets)}, byte {start - header}: expected a whole record. "
                f"Received: the file's end after {size} bytes"
            )
        add_offset(start)
        add_length(length)
    return np.frombuffer(offsets, np.int64), np.frombuffer(lengths, np.int64)


def _identity(path):
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


@functools.lru_cache(maxsize=_MAX_OPEN_FILES)
def _map(path, identity):
    if _identity(path) != identity:
        raise OSError(f"{path}: expected the file as it was when it was opened first. Received: another one")
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class RecordFile:
    """The records of one TFRecord file by index; their data are read when asked for.

    Args:
        path: of the file.

    Attributes:
        path: str.
        offsets, lengths: int64, [N], of the records' data.

    Raises:
        ValueError: a damaged length, or the file is cut short.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self._identity = _identity(self.path)
        size = self._identity[0]
        self.offsets, self.lengths = _scan(_map(self.path, self._identity) if size else b"", size, self.path)

    def __len__(self):
        return len(self.offsets)

    def read(self, index):
        """Bytes of one record; raises `DamagedImageError` where they are not what was written."""
        start, length = int(self.offsets[index]), int(self.lengths[index])
        stored = _map(self.path, self._identity)
        data = stored[start : start + length]
        if _masked_crc(data) != _CRC.unpack_from(stored, start + length)[0]:
            raise DamagedImageError(
                f"{self.path}, record {index}: expected data with their checksum. Received: {length} damaged bytes"
            )
        return data


class RecordFiles:
    """The records of several files, one after the other. Can be pickled and read from several threads.

    Args:
        paths: of the files.
        counts: how many records each must have; a file is then opened when its first record is read. None: all files
            are opened at once, and have what they have. Default None.

    Raises:
        ValueError: as of `RecordFile`; with `counts`, `read` raises it, and for another number of records.
    """

    def __init__(self, paths, counts=None):
        self.paths, self._counts = [os.fspath(path) for path in paths], counts
        self._files = [RecordFile(path) if counts is None else None for path in self.paths]
        counts = [len(file) for file in self._files] if counts is None else counts
        self._ends = list(itertools.accumulate(counts))

    def __len__(self):
        return self._ends[-1] if self._ends else 0

    def _locate(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} records. Received: {index}")
        number = bisect.bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)

    def name(self, index):
        """File and number of a record, for messages."""
        number, record = self._locate(index)
        return f"{self.paths[number]}, record {record}"

    def _open(self, number):
        file = RecordFile(self.paths[number])
        if len(file) != self._counts[number]:
            raise ValueError(f"{file.path}: expected {self._counts[number]} records. Received: {len(file)}")
        self._files[number] = file
        return file

    def read(self, index):
        """Bytes of one record; raises `DamagedImageError` where they are damaged."""
        number, record = self._locate(index)
        return (self._files[number] or self._open(number)).read(record)


def _add_message(file, name, *fields):
    message = file.message_type.add(name=name)
    for number, (field, label, kind) in enumerate(fields, start=1):
        described = message.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            described.type, described.type_name = described.TYPE_MESSAGE, f".tensorflow.{kind}"
        else:
            described.type = kind
    return message


@functools.cache
def example_class():
    """The class of tf.train.Example messages.

    TensorFlow's own definition cannot be imported without it, and one process may not hold two definitions of a name in
    one pool of descriptors: this one is in a pool of its own.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    _add_message(file, "BytesList", ("value", many, field.TYPE_BYTES))
    _add_message(file, "FloatList", ("value", many, field.TYPE_FLOAT))
    _add_message(file, "Int64List", ("value", many, field.TYPE_INT64))
    kinds = (("bytes_list", one, "BytesList"), ("float_list", one, "FloatList"), ("int64_list", one, "Int64List"))
    feature = _add_message(file, "Feature", *kinds)
    feature.oneof_decl.add(name="kind")
    for kind in feature.field:
        kind.oneof_index = 0
    features = _add_message(file, "Features", ("feature", many, "Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    value = entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE)
    value.type_name = ".tensorflow.Feature"
    _add_message(file, "Example", ("features", one, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def encode_example(values):
    """Bytes of an Example, the same for the same values.

    Args:
        values: {name: bytes or int}.
    """
    example = example_class()()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def decode_example(data, name):
    """The features of an Example: a mapping of names to messages with bytes_list, float_list and int64_list.

    Args:
        data: bytes.
        name: of the record, for the message.

    Raises:
        DamagedImageError: these are not the bytes of an Example.
    """
    from google.protobuf.message import DecodeError

    try:
        return example_class().FromString(data).features.feature
    except DecodeError as error:
        raise DamagedImageError(
            f"{name}: expected a tf.train.Example. Received: {len(data)} other bytes ({error})"
        ) from error
