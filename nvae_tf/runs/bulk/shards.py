"""The folder of a job: shards of a fixed number of images each, which any process can write in any order.

OUT/
  sample-00003-of-00010.tar    rows of a range of images; whole or absent
  _job.json                    what the rows depend on; another job is refused. Written first
  _progress/                   until the job is complete: the description of each finished shard
  _manifest.json               descriptions of all shards, with checksums. Written last

Readers of folders of Parquet files pass over names with an underscore.
"""

import dataclasses
import os
import pathlib
import shutil
import typing

from nvae_tf.files import file_sum, new_file, read_json, tidy, write_json
from nvae_tf.runs.bulk.formats import FORMATS
from nvae_tf.runs.load import ChosenWeights

_SETTINGS, _PROGRESS, MANIFEST = "_job.json", "_progress", "_manifest.json"
_MAX_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Description of a finished shard.

    Attributes:
        file: name of the file.
        first: number of its first image.
        num_images: number of rows; damaged images have none.
        bytes, sha256: size and checksum of the file.
    """

    file: str
    first: int
    num_images: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A job on a number of images, and where it is written. Can be pickled.

    Attributes:
        name: "sample", "encode" or "score".
        job: `Sampling`, `Encoding` or `Scoring`.
        weights: `ChosenWeights` of the model.
        format: a name in `FORMATS`.
        folder: absolute path.
        num_images: number of images, damaged ones included.
        shard_size: number of images in a shard, a multiple of the batch size.
    """

    name: str
    job: typing.Any
    weights: ChosenWeights
    format: str
    folder: pathlib.Path
    num_images: int
    shard_size: int

    @property
    def num_shards(self):
        """Number of shards."""
        return -(-self.num_images // self.shard_size)

    def size(self, number):
        """Number of images of a shard, damaged ones included."""
        return min(self.shard_size, self.num_images - number * self.shard_size)

    def begin(self, settings):
        """Creates the folder, whose only writer this process must be.

        Raises:
            ValueError: a job with other `settings`, a dict of what the rows depend on, was begun there.
            FileExistsError: other files are there.
        """
        path = self.folder / _SETTINGS
        settings = settings | {"job": self.name, "format": self.format}
        settings |= {"num_images": self.num_images, "shard_size": self.shard_size, "batch_size": self.job.batch_size}
        found = read_json(path)
        if found is None or not _files(self.folder):  # nothing is lost if no shard was finished
            _check_empty(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)
        elif found != settings:
            names = [name for name in settings | found if settings.get(name) != found.get(name)]
            expected, received = ({name: values.get(name) for name in names} for values in (found, settings))
            raise ValueError(f"{path}: expected {expected}, with which this folder was begun. Received: {received}")
        tidy(self.folder)
        progress = self.folder / _PROGRESS
        progress.mkdir(exist_ok=True)
        for attempts in progress.glob("*.attempts"):
            attempts.unlink()

    def _file(self, number):
        return f"{self.name}-{number:05}-of-{self.num_shards:05}.{FORMATS[self.format][0]}"

    def _described(self, number):
        return self.folder / _PROGRESS / f"{self._file(number)}.json"

    def finished(self):
        """{number of a shard: its `Shard`} for the finished ones."""
        manifest, shards = read_json(self.folder / MANIFEST), {}
        known = {described["file"]: described for described in manifest["shards"]} if manifest else {}
        for number in range(self.num_shards):
            described = read_json(self._described(number)) or known.get(self._file(number))
            path = self.folder / self._file(number)
            if described and path.exists() and path.stat().st_size == described["bytes"]:
                shards[number] = Shard(**described)
        return shards

    def num_damaged(self, number):
        """Number of damaged images in a finished shard."""
        return self.size(number) - read_json(self._described(number))["num_images"]

    def write(self, number, model):
        """Writes a shard and its description, which it returns.

        Raises:
            FileNotFoundError: the folder is not that of `begin`, because this is another machine.
            OSError: the process that wrote this shard died too often.
        """
        if not (self.folder / _SETTINGS).exists():
            raise FileNotFoundError(f"{self.folder}: expected a folder that machines share. Received: no {_SETTINGS}")
        first, path = number * self.shard_size, self.folder / self._file(number)
        self._count_attempt(path.name)
        count = 0

        def counted(batches):
            nonlocal count
            for rows in batches:
                count += len(rows["index"])
                yield rows

        with new_file(path) as temporary:
            batches = self.job.batches(model, first, first + self.size(number))
            FORMATS[self.format][1](temporary, counted(batches))
            shard = Shard(path.name, first, count, temporary.stat().st_size, file_sum(temporary))
        write_json(self._described(number), dataclasses.asdict(shard))
        return shard

    def _count_attempt(self, file):
        """A process that dies has no other way to say that it tried: it may be the shard that kills it."""
        path = self.folder / _PROGRESS / f"{file}.attempts"
        with open(path, "ab") as attempts:
            attempts.write(b".")
        if path.stat().st_size > _MAX_ATTEMPTS:
            raise OSError(
                f"{self.folder / file}: expected a worker that survives it. Received: {_MAX_ATTEMPTS} that died, for "
                "lack of memory perhaps: a smaller --batch_size or more --cpus_per_worker, so fewer workers, may help"
            )

    def end(self):
        """Writes the manifest of a job whose shards are all finished, and returns the list of `Shard`.

        Raises:
            FileNotFoundError: a shard is not there.
        """
        tidy(self.folder)  # of workers that died
        finished = self.finished()
        missing = [self._file(number) for number in range(self.num_shards) if number not in finished]
        if missing:
            raise FileNotFoundError(
                f"{self.folder}: expected {self.num_shards} shards. Received: none named {missing[0]}"
            )
        shards = list(finished.values())
        write_json(
            self.folder / MANIFEST,
            {
                "num_images": sum(shard.num_images for shard in shards),
                "num_damaged": self.num_images - sum(shard.num_images for shard in shards),
                "job": read_json(self.folder / _SETTINGS),
                "shards": [dataclasses.asdict(shard) for shard in shards],
            },
        )
        shutil.rmtree(self.folder / _PROGRESS)
        return shards


def _files(folder):
    """Names in a folder, except those of a job without a finished shard."""
    return sorted(set(os.listdir(folder)) - {"lock", _SETTINGS, _PROGRESS}) if folder.exists() else []


def _check_empty(folder):
    """Raises FileExistsError if a folder has files of others."""
    there = _files(folder)
    if there:
        raise FileExistsError(f"{folder}: expected a folder without other files. Received: {len(there)}, {there[0]}")
