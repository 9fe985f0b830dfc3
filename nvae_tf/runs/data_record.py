"""data.json in a run folder: the images that the run is trained on, so that no program takes others unnoticed."""

import pathlib

from absl import logging

from nvae_tf.files import read_json, write_json

# Fields of the data that divide the images, for runs without a record of them.
_DIVISION = ("validation_images", "split_seed", "test_fraction", "split_rule")


class DataRecord:
    """The images of a run's splits, as its training found them, for comparison with those that a program opens.

    RUN/data.json holds {"splits": {split: {"num_images", "fingerprint", "files"}}, "changes": [...]}. Damaged images
    count in num_images only. "files" (`files_digest`) saves reading a whole split to compare it. Each change that
    training accepted is kept: {"step", "split", "before", "after"}.

    Args:
        run_dir: folder of the run.
        accept_changed: go on with other images, with a warning, instead of an error. Default False.
        training: whether training runs, which records what it finds. Default False.
    """

    def __init__(self, run_dir, accept_changed=False, training=False):
        self.path = pathlib.Path(run_dir) / "data.json"
        self.changed, self._found, self._accept, self._training = {}, {}, accept_changed, training
        self._begun = any((self.path.parent / "checkpoints").glob("step_*"))
        # Before the first checkpoint nothing depends on the images yet.
        values = (self._begun or not training) and read_json(self.path) or {}
        self._known, self._changes = values.get("splits", {}), values.get("changes", [])

    def check_count(self, split, num_images):
        """Raises ValueError if the run's split has another number of images, before they are read."""
        known = self._known.get(split)
        if known and known["num_images"] != num_images and not self._accept:
            raise ValueError(self._difference(split, num_images))
        if self._begun and not known:
            self._begun = False  # one warning is enough
            logging.warning("%s: expected a record of the run's images. Received: none; not compared", self.path)

    def check(self, split, images, fingerprint=None):
        """Whether the `SplitImages` of a whole split are the run's; None if the run has not recorded this split.

        Without their fingerprint they are read, unless their files have not changed. Raises ValueError if they are
        others and that was not accepted.
        """
        from nvae_tf.data.fingerprint import files_digest, fingerprint_text
        from nvae_tf.data.image_set import read_fingerprint
        from nvae_tf.runs.progress import Progress

        known = self._known.get(split)
        if not known and not self._training:
            return None
        files = files_digest([images]) if self._training or fingerprint is None else None
        if fingerprint is None and known and images.split.paths and known["files"] == files:
            fingerprint = int(known["fingerprint"], 16)
        elif fingerprint is None:
            fingerprint = read_fingerprint(images, Progress(len(images)))
        entry = {"num_images": len(images), "fingerprint": fingerprint_text(fingerprint), "files": files}
        self._found[split] = entry
        if not known:
            return None
        if known | {"files": files} == entry:
            return True
        message = self._difference(split, len(images))
        if not self._accept:
            raise ValueError(message)
        self.changed[split] = {"split": split, "before": known, "after": entry}
        logging.warning("accepted: %s", message)
        return False

    def _difference(self, split, num_images):
        before = self._known[split]["num_images"]
        return (
            f"--data_dir: expected the {before} {split} images of {self.path.parent}. Received: {num_images}"
            f"{'' if num_images != before else ' others'}; --accept_changed_data takes them, but images now held out "
            "may have been trained on, so that their figures can be too good and do not compare with earlier ones"
        )

    def write(self, step):
        """Records what was found, and the changes that were accepted at this step."""
        changes = self._changes + [{"step": step, **change} for change in self.changed.values()]
        write_json(self.path, {"splits": self._known | self._found, "changes": changes})


def check_same_data(run_dirs, configs, split):
    """Raises ValueError unless runs have the same images for training and in a split, prepared in the same way.

    The images are those that training recorded in data.json. Where a run has no record of them, the fields of its data
    that divide the images are compared instead. Padding does not count.
    """
    first, *others = [_traits(run_dir, config, split) for run_dir, config in zip(run_dirs, configs, strict=True)]
    for run_dir, traits in zip(run_dirs[1:], others, strict=True):
        known = {"train", split} <= first.keys() & traits.keys()
        skipped = _DIVISION if known else ()
        for name in first:
            if name in traits and name not in skipped and first[name] != traits[name]:
                what = f"{name} images" if name in ("train", split) else name
                raise ValueError(
                    f"{run_dir}: {what}: expected {first[name]}, as in {run_dirs[0]}. Received: {traits[name]}; "
                    "figures on different data or splits do not compare"
                )


def _traits(run_dir, config, split):
    """{name: value} of what runs with the same data have in common."""
    data, model = config.data, config.model
    size = (model.image_height - 2 * model.padding, model.image_width - 2 * model.padding, model.image_channels)
    traits = {name: getattr(data, name) for name in ("dataset", "binarize", *_DIVISION)} | {"size of the images": size}
    splits = (read_json(pathlib.Path(run_dir) / "data.json") or {}).get("splits", {})
    for name in {"train", split} & splits.keys():
        found = splits[name]
        traits[name] = f"{found['num_images']} with the fingerprint {found['fingerprint']}"
    return traits
