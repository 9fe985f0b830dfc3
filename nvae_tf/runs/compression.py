"""Compression of images to .nvz files with the model of a run, and back."""

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.compression.choice import choose_settings
from nvae_tf.compression.chunk_coder import ChunkCoder, DifferentArithmeticError, Statistics
from nvae_tf.compression.levels import image_shape
from nvae_tf.compression.networks import CodingNetworks
from nvae_tf.compression.nvz_file import Chunk, DamagedFileError, Header, pixel_digest, read_chunk
from nvae_tf.compression.settings import check_supported
from nvae_tf.config import config_to_dict
from nvae_tf.data.processes import map_in_processes
from nvae_tf.files import only_writer, sync
from nvae_tf.inference.model import refold
from nvae_tf.runs.load import load_run


def use_one_thread():
    """Makes TensorFlow compute every operation in one thread, so that results do not depend on the number of cores.

    Several processes use several cores. It must be called before TensorFlow computes anything: later it does nothing.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)


class RunCoder:
    """The model of a run, for compression.

    Args:
        run_dir, step, average: as for `load_run`.

    Attributes:
        arguments: these.
        model: `InferenceModel`.
        sums: {"weights": SHA-256 of the weights, "config": that of the model's configuration}.

    Raises:
        ValueError: images cannot be compressed with the model.
        CheckpointError: see `load_run`.
    """

    def __init__(self, run_dir, step=None, average=True):
        self.arguments = (str(run_dir), step, average)
        check_supported(RunFolder(run_dir).config.model)
        use_one_thread()
        nvae = load_run(*self.arguments)
        self.model, weights = refold(nvae), hashlib.sha256()
        for name, variable in sorted(model_variables(nvae).items()):
            values = np.ascontiguousarray(variable)
            weights.update(f"{name} {values.dtype} {values.shape}\n".encode())
            weights.update(values)
        config = json.dumps(config_to_dict(nvae.model_config), sort_keys=True)
        self.sums = {"weights": weights.hexdigest(), "config": hashlib.sha256(config.encode()).hexdigest()}
        self._coders = {}

    def coder(self, settings):
        """`ChunkCoder` with some `Settings`."""
        if settings not in self._coders:
            self._coders = {settings: ChunkCoder(CodingNetworks(self.model, settings))}
        return self._coders[settings]

    def header(self, levels, shape, scale, steps, batch_size, chunk_images):
        """`Header` of a file of the levels [N, h, w, C] of an array of a shape; the other arguments are its fields."""
        return Header(
            **self.sums,
            shape=list(shape),
            scale=scale,
            chunk_images=chunk_images,
            settings=choose_settings(self.model, levels, steps, batch_size),
            software={name: importlib.metadata.version(name) for name in ("tensorflow", "constriction")},
        )

    def check(self, path, header):
        """Raises ValueError if a file with a header was not written with this model."""
        shape, received = image_shape(self.model.model_config), tuple(header.shape[1:])
        if received != shape and (*received, 1) != shape:
            raise ValueError(f"{path}: expected images of {list(shape)}. Received: {list(received)}")
        for name, what in (("config", "configuration"), ("weights", "weights")):
            expected, received = getattr(header, name), self.sums[name]
            if expected != received:
                raise ValueError(
                    f"{path}: expected the model that it was written with, whose {what} {_have(what)} the SHA-256 "
                    f"{expected}; --step and --ema choose among the weights of a run. "
                    f"Received: {self.arguments[0]}, {received}"
                )

    def map(self, function, settings, tasks, num_processes):
        """Yields `function(coder, *task)` for each task, in order, from processes of which each loads the model."""
        if num_processes == 1:
            return (function(self.coder(settings), *task) for task in tasks)
        return map_in_processes(_in_process, (function, self.arguments, settings), tasks, num_processes)


def compress(levels, path, run_coder, header, verify=True, num_processes=1, progress=lambda done: None):
    """Writes levels to a .nvz file, by way of `PATH.partial`, from which a later call goes on.

    Args:
        levels: uint8 [N, h, w, C], of `to_levels`.
        path: file to write.
        run_coder: `RunCoder`.
        header: `Header`.
        verify: whether to decode every chunk again before it is written. The chunks of an earlier call are not decoded
            again, so they are verified only if that call did so. Default True.
        num_processes: processes that chunks are divided among. Default 1, this one.
        progress: called with the number of images that are done, at first with those of an earlier call.

    Returns:
        `Statistics` of the chunks that were compressed now.

    Raises:
        DifferentArithmeticError: a chunk was not decoded to the same images.
        OSError, ValueError: the file cannot be written, or another process writes it.
    """
    head = header.to_bytes()
    statistics, path = Statistics(), pathlib.Path(path)

    def intact(file, number):
        first, count = header.first(number), header.count(number)
        digest = read_chunk(file, header, number).digest
        return digest == pixel_digest(levels[first : first + count], first)

    with _partial_file(path, head, intact, header.num_chunks) as (file, done):
        progress(min(header.first(done), len(levels)))
        places = [(header.first(number), header.count(number)) for number in range(done, header.num_chunks)]
        tasks = [(levels[first : first + count], first, verify) for first, count in places]
        results = run_coder.map(_compress_chunk, header.settings, tasks, num_processes)
        for number, (words, found, same) in enumerate(results, done):
            first, count = places[number - done]
            if not same:
                raise DifferentArithmeticError(
                    f"{path}: chunk {number}: expected the same images when it is decoded again. Received: others; the "
                    "arithmetic of this machine is not the same every time"
                )
            chunk = Chunk(words, pixel_digest(levels[first : first + count], first))
            file.write(chunk.to_bytes(header, number))
            file.flush()
            statistics.add(found)
            progress(first + count)
    return statistics


def decompress(source, contents, path, run_coder, num_processes=1, progress=lambda done: None):
    """Writes the images of a .nvz file to a .npy file, by way of `PATH.partial`, from which a later call goes on.

    Args:
        source: the .nvz file, for messages.
        contents: what `read_chunks` returns of it.
        path: file to write.
        run_coder: `RunCoder` of the model that the file was written with.
        num_processes, progress: as for `compress`.

    Returns:
        Shape of the array that was written.

    Raises:
        DifferentArithmeticError: this machine computes other numbers than the one that wrote the source.
        OSError, ValueError: the model is another one, or the file cannot be written, or another process writes it.
    """
    header, found = contents
    run_coder.check(source, header)
    numbers = list(found)
    shape = (sum(map(header.count, numbers)), *header.shape[1:])

    def intact(file, place):
        number = numbers[place]
        pixels = np.frombuffer(file.read(header.count(number) * int(np.prod(shape[1:]))), np.uint8)
        levels, others = np.divmod(pixels, np.uint8(header.scale))
        return not others.any() and pixel_digest(levels, header.first(number)) == found[number].digest

    with _partial_file(pathlib.Path(path), _npy_header(shape), intact, len(numbers)) as (file, done):
        images = sum(map(header.count, numbers[:done]))
        progress(images)
        tasks = [(found[number].words, header.count(number), header.first(number)) for number in numbers[done:]]
        results = run_coder.map(_decompress_chunk, header.settings, tasks, num_processes)
        for number, (levels, reason) in zip(numbers[done:], results, strict=True):
            if reason or pixel_digest(levels, header.first(number)) != found[number].digest:
                raise DifferentArithmeticError(
                    f"{source}: chunk {number}: expected images with its checksum. Received: {reason or 'others'}; the "
                    "chunk is intact, so this machine or its software computes other numbers than those that it was "
                    f"written with, {header.software}"
                )
            file.write(levels * np.uint8(header.scale))
            file.flush()
            images += header.count(number)
            progress(images)
    return shape


@contextlib.contextmanager
def _partial_file(path, head, intact, count):
    """Yields an open file that becomes `path` at the end, and how many parts of an earlier attempt it begins with.

    Args:
        path: final path.
        head: bytes with which the file begins.
        intact: function of the file and the number of the part at its position, which reads this part and returns
            whether it is the right one.
        count: number of parts.
    """
    partial = path.with_name(f"{path.name}.partial")
    with only_writer(path.absolute().parent, f"{path.name}.lock", written=f"--out={path}"):
        try:
            with open(partial, "a+b") as file:
                file.seek(0)
                done, end = 0, 0
                if file.read(len(head)) == head:
                    end = file.tell()
                    with contextlib.suppress(DamagedFileError):
                        while done < count and intact(file, done):
                            done, end = done + 1, file.tell()
                file.truncate(end)
                if not end:
                    file.write(head)
                yield file, done
            sync(partial)
            os.replace(partial, path)
            sync(path.absolute().parent)
        except OSError as error:
            if error.errno is None or str(error.filename or partial) != str(partial):  # not of this file
                raise
            raise OSError(f"{partial}: expected to write it. Received: {error.strerror or error}") from error


def _npy_header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _compress_chunk(coder, levels, first, verify):
    """(words, `Statistics`, whether it was decoded to the same images)."""
    words, statistics = coder.compress(levels, first)
    if not verify:
        return words, statistics, True
    try:
        same = np.array_equal(coder.decompress(words, len(levels), first), levels)
    except DifferentArithmeticError:
        same = False
    return words, statistics, same


def _decompress_chunk(coder, words, count, first):
    """(levels, None), or (None, reason why there are none)."""
    try:
        return coder.decompress(words, count, first), None
    except ValueError as error:  # DifferentArithmeticError, or numbers that are not finite
        return None, str(error)


@functools.cache
def _coder(arguments, settings):
    return RunCoder(*arguments).coder(settings)


def _in_process(shared, task):
    function, arguments, settings = shared
    return function(_coder(arguments, settings), *task)


def _have(what):
    return "have" if what == "weights" else "has"
