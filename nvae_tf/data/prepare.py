"""Prepares a data set: writes it as shards of PNG files, in several processes, and resumes interrupted work.

During the work, FOLDER/.progress holds plan.json, which describes what is being made, and a description of each
finished shard with its checksum. manifest.json is written last; then .progress is removed. The files depend only on the
images and the options, not on the number of processes or of interruptions.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

from nvae_tf.config.data import DRAWN_BY, DataConfig
from nvae_tf.data.fingerprint import files_digest
from nvae_tf.data.records import MANIFEST, SUFFIX, VERSION, Manifest, find_damaged, read_manifest, write_manifest
from nvae_tf.data.shards import finished_shard, make_tasks, write_shards
from nvae_tf.data.splits import SPLITS, open_splits
from nvae_tf.files import DRAWN, only_writer, tidy, write_json

_PROGRESS, _PLAN = ".progress", "plan.json"


def _compare(where, stored, wanted):
    for field, value in wanted.items():
        if stored.get(field) != value:
            raise ValueError(
                f"{where}: {field}: expected {value!r}, as requested now. Received: {stored.get(field)!r}; "
                "use another folder, or remove this one"
            )


class Preparation:
    """Preparation of a data set from its source into a folder.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of its files, or None.
        config: `DataConfig`, whose fields on resizing, the split and damaged images count. Default `DataConfig()`.
        num_processes: number of processes that read and write. Default 1.
        log: function that takes a line of text. Default `print`.
        make_progress: function that takes the total number of images and returns a function that takes the number
            done so far. Default: shows nothing.
    """

    def __init__(
        self, info, data_dir, config=None, num_processes=1, log=print, make_progress=lambda total: lambda done: None
    ):
        self.info, self.config, self.log, self.make_progress = info, config or DataConfig(), log, make_progress
        self.num_processes = num_processes
        self.data_dir = os.path.abspath(data_dir) if data_dir else None

    def in_cache(self, cache_dir):
        """Prepares the data set in the cache, unless it is there already; returns the folder.

        The folder is named after a digest of the files and the configuration and after the image size.
        """
        plan = json.dumps(self._plan(*self._open()), sort_keys=True)
        digest = hashlib.sha256(plan.encode()).hexdigest()
        folder = pathlib.Path(cache_dir).expanduser() / f"{digest[:16]}-{self.info.stored_size}"
        if read_manifest(folder) is None:
            self.log(f"{self.info.name}: prepared once, in {folder}; resumed if it is stopped")
            self.run(folder, wait=True)
        return folder

    def run(self, folder, wait=False):
        """Writes the shards that are missing and replaces those that are damaged.

        Args:
            folder: folder to write to: empty, or the folder of an earlier run.
            wait: if another program is writing the folder, wait until it finishes instead of raising an error, and do
                not verify its files. Default False.

        Returns:
            `Manifest`.

        Raises:
            ValueError: the folder holds something else, another program is writing it, too many images are damaged, or
                an image has another size; see also `open_splits`.
            OSError: a file cannot be read or written; finished shards are kept.
        """
        folder = pathlib.Path(folder)
        with self._only_writer(folder, wait):
            manifest = read_manifest(folder)
            if manifest is None:
                return self._make(folder, quiet=wait)
            if wait:
                return manifest  # written by the program that this one waited for
            if not manifest.files:  # from before the rule was recorded
                self.config = dataclasses.replace(self.config, split_rule=manifest.split_rule)
            _compare(folder / MANIFEST, dataclasses.asdict(manifest), self._fields())
            self._compare_source(folder, manifest)
            shards = manifest.shards()
            finished = self._intact(folder, shards)
            if len(finished) < len(shards):
                self._mend(folder, manifest, finished)
            return manifest

    def _fields(self):
        fields = {"dataset": self.info.name, "image_size": self.info.stored_size, "channels": self.info.channels}
        return fields | {name: getattr(self.config, name) for name in ("resize", *DRAWN_BY)}

    def _open(self):
        """Name of the source and {split: `SplitImages`}."""
        source, splits = open_splits(self.info, self.data_dir, self.config)
        return source, {split: splits[split]() for split in SPLITS if split in splits}

    def _plan(self, source, splits):
        counts = {split: len(images) for split, images in splits.items()}
        plan = {"version": VERSION, "source": source, **self._fields(), "num_images": counts}
        return plan | {"files": files_digest(splits.values())}

    @contextlib.contextmanager
    def _only_writer(self, folder, wait):
        progress, is_new = folder / _PROGRESS, not folder.exists()
        with only_writer(folder, f"{_PROGRESS}/lock", wait):
            if (progress / _PLAN).exists() or (folder / MANIFEST).exists():  # otherwise the files are not ours
                tidy(folder, f"{DRAWN}*")
            try:
                yield
            finally:
                if (folder / MANIFEST).exists() or not (progress / _PLAN).exists():
                    shutil.rmtree(progress, ignore_errors=True)
                    if is_new:
                        with contextlib.suppress(OSError):
                            folder.rmdir()  # nothing was written

    def _make(self, folder, quiet):
        source, splits = self._open()
        if (selection := splits["train"].split.selection) and not quiet:
            self.log(selection)
        tasks, plan, path = make_tasks(splits), self._plan(source, splits), folder / _PROGRESS / _PLAN
        there = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
        if there and path.exists():  # a plan does not count before the first shard is finished
            _compare(path, json.loads(path.read_text(encoding="utf-8")), plan)
        elif there or (folder / MANIFEST).exists():
            raise ValueError(f"{folder}: expected an empty folder. Received: {(there or [MANIFEST])[0]} in it")
        write_json(path, plan)
        finished = filter(None, (finished_shard(folder / _PROGRESS, task) for task in tasks))
        shards = self._write(folder, splits, tasks, self._intact(folder, list(finished)))
        by_split = {split: [] for split in splits}
        for task, shard in zip(tasks, shards, strict=True):
            by_split[task.split].append(shard)
        for split, parts in by_split.items():
            if not any(shard.num_images for shard in parts):
                raise ValueError(f"{split}: expected images that can be read. Received: none")
        files = files_digest(splits.values(), times=False)
        drawn = len(splits["train"]) < splits["train"].split.num_images
        manifest = Manifest(source=source, splits=by_split, files=files, drawn=drawn, **self._fields())
        write_manifest(folder, manifest)
        return manifest

    def _compare_source(self, folder, manifest):
        """Raises ValueError if the source holds other images than those that a finished folder was made from."""
        if not self.data_dir or not os.path.isdir(self.data_dir):
            self.log(f"{folder}: there is no folder {self.data_dir or '--data_dir'} to compare it with")
            return
        source, splits = self._open()
        now = {split: len(images) for split, images in splits.items()}
        then = {split: sum(s.num_images + len(s.damaged) for s in shards) for split, shards in manifest.splits.items()}
        same = manifest.files in ("", files_digest(splits.values(), times=False))
        if not same or now != then or source != manifest.source:
            raise ValueError(
                f"{self.data_dir}: expected the images that {folder} was made from, {then} in {manifest.source}. "
                f"Received: {now} in {source}{', in other files' if now == then else ''}; "
                "prepare them to another folder, or remove this one first"
            )
        how = ", in files of the same names, sizes and, where compared, content" if manifest.files else ""
        self.log(f"{self.data_dir}: as many images as {folder} was made from{how}")

    def _mend(self, folder, manifest, finished):
        _, splits = self._open()
        tasks, shards = make_tasks(splits), manifest.shards()
        for shard, written in zip(shards, self._write(folder, splits, tasks, finished), strict=True):
            if shard.sha256 != written.sha256:
                raise ValueError(f"{self.data_dir}: expected the images of {folder / shard.file}. Received: others")

    def _intact(self, folder, shards):
        """{file: `Shard`} of the shards that still match their checksums."""
        damaged = find_damaged(folder, shards, self.num_processes)
        for file in damaged:
            self.log(f"written again: {folder / file} is missing or differs from its checksum")
        if shards:
            self.log(f"{len(shards) - len(damaged)} finished shards verified")
        return {shard.file: shard for shard in shards if shard.file not in damaged}

    def _write(self, folder, splits, tasks, finished):
        """The `Shard` of each task; shards that are not finished are written."""
        shards, done, counts, limit = [], 0, dict.fromkeys(splits, 0), self.config.max_damaged
        progress = self.make_progress(sum(task.stop - task.start for task in tasks))
        work = (splits, self.data_dir, folder, folder / _PROGRESS)
        missing = [task for task in tasks if task.file not in finished]
        with contextlib.closing(write_shards(missing, work, self.num_processes)) as written:
            for split, file, start, stop in tasks:
                kept = finished.get(file)
                shard, messages = (kept, [name for _, name in kept.damaged]) if kept else next(written)
                for message in messages:
                    counts[split] += 1
                    if counts[split] > limit:
                        raise ValueError(
                            f"max_damaged: expected at most {limit} damaged images in {split}. "
                            f"Received: {counts[split]}, the last: {message}"
                        )
                    self.log(f"damaged image, left out ({counts[split]} in {split}): {message}")
                shards.append(shard)
                done += stop - start
                progress(done)
        return shards
