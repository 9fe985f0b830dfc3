"""Makes a folder of TFRecord shards of a data set: by several processes, and going on where a killed run was.

While it works, OUT_DIR/.progress holds plan.json, which says what is being made, and beside it a JSON file for each
shard that is done, with its checksum. manifest.json is written last; then .progress goes. The files depend on the
images and the options alone, not on the number of processes or on how often the work was stopped.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil

from nvae_tf.data.manifest import (
    NAME,
    VERSION,
    Manifest,
    Shard,
    Split,
    find_faults,
    read_manifest,
    write_json,
    write_manifest,
)
from nvae_tf.data.shard_writer import Work, check_damaged, default_images_per_shard, shard_tasks, write_shards
from nvae_tf.data.splits import SPLITS, open_splits
from nvae_tf.data.stores import FittedStore

_PROGRESS = ".progress"
_PLAN = "plan.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How a data set is prepared.

    Attributes:
        resize: cut images of another size to the aspect ratio and resize them. Default False.
        split_seed, test_fraction: as of `nvae_tf.data.splits.open_splits`. Default 0 and 0.1.
        images_per_shard: None for `default_images_per_shard`. Default None.
        num_processes: that read and write. Default 1.
        max_damaged: images of a split that are left out because they cannot be read. Default 10.
    """

    resize: bool = False
    split_seed: int = 0
    test_fraction: float = 0.1
    images_per_shard: int | None = None
    num_processes: int = 1
    max_damaged: int = 10


def _names_digest(work, split):
    digest = hashlib.sha256()
    for index in range(len(work.stores[split])):
        digest.update(work.name(split, index).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _compare(where, stored, wanted):
    for field, value in wanted.items():
        if stored.get(field) != value:
            raise ValueError(
                f"{where}: {field}: expected {value!r}, as asked for now. Received: {stored.get(field)!r}; "
                "give another folder, or remove this one"
            )


class Preparation:
    """A data set on its way from its source to a folder.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of its files, or None.
        out_dir: folder to write; without shards, or that of an earlier run.
        options: `Options`.
        log: function of a line of text. Default `print`.
        make_progress: function that takes a number of images and gives one that takes how many are done. Default None.
    """

    def __init__(self, info, data_dir, out_dir, options, log=print, make_progress=None):
        self.info, self.folder, self.options, self.log = info, pathlib.Path(out_dir), options, log
        self.data_dir = os.path.abspath(data_dir) if data_dir else None
        self.progress = self.folder / _PROGRESS
        self.make_progress = make_progress or (lambda total: lambda done: None)

    def run(self):
        """Writes what is not there yet.

        Returns:
            `Manifest`.

        Raises:
            ValueError: the folder holds something else, too many damaged images, images of another size, or what
                `open_splits` raises.
            OSError: a file cannot be read or written; what is done is kept.
        """
        manifest = read_manifest(self.folder)
        return self._make() if manifest is None else self._repair(manifest)

    def _fields(self):
        info, options = self.info, self.options
        fields = {"dataset": info.name, "image_height": info.stored_size, "image_width": info.stored_size}
        fields |= {"channels": info.channels, "resize": options.resize}
        return fields | {"split_seed": options.split_seed, "test_fraction": options.test_fraction}

    def _open(self):
        """(name of the source, `Work`)."""
        options = self.options
        source, splits = open_splits(self.info, self.data_dir, options.split_seed, options.test_fraction)
        fit = self.info.fit(options.resize)
        stores = {split: FittedStore(splits[split](), fit) for split in SPLITS if split in splits}
        for store in stores.values():
            if not len(store):
                raise ValueError(f"{store.source}: expected images. Received: none")
        return source, Work(stores, self.data_dir, self.folder, self.progress, options.max_damaged)

    @contextlib.contextmanager
    def _only_writer(self):
        self.progress.mkdir(parents=True, exist_ok=True)
        with open(self.progress / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{self.folder}: expected no other program that writes it. Received: one") from error
            try:
                for path in self.progress.glob("*.tmp"):
                    path.unlink()
                yield
            finally:
                if (self.folder / NAME).exists():
                    shutil.rmtree(self.progress)

    def _make(self):
        source, work = self._open()
        largest = max(map(len, work.stores.values()))
        image_bytes = self.info.stored_size**2 * self.info.channels
        per_shard = self.options.images_per_shard or default_images_per_shard(largest, image_bytes)
        fields = {**self._fields(), "source": source, "images_per_shard": per_shard}
        tasks = shard_tasks(work.stores, per_shard)
        plan = {"version": VERSION, **fields}
        for split, store in work.stores.items():
            plan |= {f"{split}.num_images": len(store), f"{split}.names_sha256": _names_digest(work, split)}
        self._check_folder(plan)
        with self._only_writer():
            write_json(self.progress / _PLAN, plan)
            results = self._write(tasks, work, self._kept(tasks))
            manifest = Manifest(**fields, splits=self._splits(tasks, results))
            write_manifest(self.folder, manifest)
        return manifest

    def _check_folder(self, plan):
        """Raises `ValueError` where the folder holds anything but the beginning of this work."""
        path = self.progress / _PLAN
        if path.exists():
            try:
                stored = dict(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: expected JSON; remove {self.folder}. Received: {error}") from error
            if any(self.folder.glob("*.tfrecord")) or any(other != path for other in self.progress.glob("*.json")):
                _compare(path, stored, plan)
            return  # a plan by which nothing was finished binds nobody
        there = sorted(path.name for path in self.folder.glob("*") if path.suffix == ".tfrecord" or path.name == NAME)
        if there:
            raise ValueError(f"{self.folder}: expected a folder without shards. Received: {there[0]} and so on")

    def _kept(self, tasks):
        """{file: result} of the shards that an earlier run has finished, and that are as it left them."""
        results = {}
        for task in tasks:
            with contextlib.suppress(OSError, ValueError):
                results[task.file] = json.loads((self.progress / f"{task.file}.json").read_text(encoding="utf-8"))
        shards = [Shard(**result["shard"]) for result in results.values()]
        faults = find_faults(self.folder, shards, self.options.num_processes)
        for fault in faults.values():
            self.log(f"written again: {fault}")
        if results:
            self.log(f"{len(results) - len(faults)} of {len(tasks)} shards are there already, verified")
        return {file: result for file, result in results.items() if file not in faults}

    def _write(self, tasks, work, kept):
        """Results of all shards, in the tasks' order; those without one are written. Names damaged images."""
        damaged, results, done = {split: [] for split in work.stores}, [], 0
        progress = self.make_progress(sum(task.stop - task.start for task in tasks))
        missing = [task for task in tasks if task.file not in kept]
        with contextlib.closing(write_shards(missing, work, self.options.num_processes)) as written:
            for task in tasks:
                result = kept.get(task.file) or next(written)
                for name, message in result["damaged"]:
                    damaged[task.split].append([name, message])
                    self.log(f"damaged image, left out ({len(damaged[task.split])} in {task.split}): {message}")
                check_damaged(task.split, damaged[task.split], self.options.max_damaged)
                results.append(result)
                done += task.stop - task.start
                progress(done)
        return results

    def _splits(self, tasks, results):
        splits, num_pixels = {}, self.info.stored_size**2
        for split in dict.fromkeys(task.split for task in tasks):
            parts = [result for task, result in zip(tasks, results, strict=True) if task.split == split]
            shards = [Shard(**part["shard"]) for part in parts]
            num_images = sum(shard.num_images for shard in shards)
            if not num_images:
                raise ValueError(f"{split}: expected images that can be read. Received: none")
            sums = zip(*(part["sums"] for part in parts if part["shard"]["num_images"]), strict=True)
            mean = [sum(values) / (num_images * num_pixels) for values in sums]
            damaged = [name for part in parts for name, _ in part["damaged"]]
            splits[split] = Split(num_images, damaged, mean, shards)
        return splits

    def _repair(self, manifest):
        wanted = self._fields()
        if self.options.images_per_shard:
            wanted["images_per_shard"] = self.options.images_per_shard
        _compare(self.folder / NAME, {field: getattr(manifest, field) for field in wanted}, wanted)
        with self._only_writer():
            faults = find_faults(self.folder, manifest.shards(), self.options.num_processes)
            for fault in faults.values():
                self.log(f"written again: {fault}")
            if faults:
                self._rewrite(manifest, faults)
        self.log(f"{len(manifest.shards()) - len(faults)} of {len(manifest.shards())} shards were there, verified")
        return manifest

    def _rewrite(self, manifest, faults):
        source, work = self._open()
        tasks = shard_tasks(work.stores, manifest.images_per_shard)
        shards = {shard.file: shard for shard in manifest.shards()}
        if source != manifest.source or [task.file for task in tasks] != list(shards):
            raise ValueError(
                f"{self.data_dir}: expected the images that {self.folder} was made from, {manifest.source}, "
                f"{len(shards)} shards. Received: {source}, {len(tasks)} shards"
            )
        tasks = [task for task in tasks if task.file in faults]
        for task, result in zip(tasks, write_shards(tasks, work, self.options.num_processes), strict=True):
            shard = Shard(**result["shard"])
            if shard != shards[task.file]:
                raise ValueError(
                    f"{self.data_dir}: expected the images that {self.folder} was made from. "
                    f"Received: others; {shard.file} has SHA-256 {shard.sha256} instead of {shards[task.file].sha256}"
                )
