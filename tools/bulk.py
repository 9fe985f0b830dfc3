r"""Draws, encodes or scores many images on all cores or GPUs of a machine, or of a cluster, by Ray.

    python tools/bulk.py --job=sample --run_dir=runs/mnist --out=many --num=1000000 --temperature=0.7
    python tools/bulk.py --job=encode --run_dir=runs/mnist --out=latents --data_dir=data --split=train --what=latents,kl
    python tools/bulk.py --job=score --run_dir=runs/mnist --out=scores --files='photos/**/*.png' --num_samples=10
    python tools/bulk.py ... --address=HOST:6379      (a cluster; auto for the one that this machine belongs to)

The images are those of sample.py, the latents those of encode.py, and the figures those of evaluate.py with the same
seed and --batch_size. score writes of each image its name, NELBO, bound with K samples, reconstruction and KL, in nats
and bits per dimension, and the KL of each group; pandas.read_parquet(OUT) reads them.

OUT gets shards of --shard_size images and, last, _manifest.json with their checksums. A worker that dies is replaced.
After an interruption the same command resumes: finished shards are kept, and the others are what they would have been.
On a cluster the run, the images and OUT are on file systems that all machines share, and nvae_tf is installed on each.
"""

import pathlib

from absl import flags

from nvae_tf.evaluation.latent_files import PARTS, layout
from nvae_tf.files import only_writer
from nvae_tf.runs.progress import Progress
from tools.flags import define_images, define_path, define_run, define_statistics, define_temperatures, run

FLAGS = flags.FLAGS

flags.DEFINE_enum("job", None, ["sample", "encode", "score"], "What to do.", required=True)
define_run()
define_path("out", None, "Folder to write to, which is created if needed.", required=True)
flags.DEFINE_enum(
    "format", None, ["webdataset", "parquet", "tfrecord"], "Form of the files; webdataset for sample, or else parquet."
)
flags.DEFINE_integer("batch_size", 64, "Number of images that a worker computes at once.", lower_bound=1)
flags.DEFINE_integer("shard_size", 1024, "Number of images in a file, a multiple of --batch_size.", lower_bound=1)
flags.DEFINE_string("address", None, "Address of a Ray cluster, HOST:PORT or auto; one of this machine if not given.")
flags.DEFINE_integer("cpus_per_worker", 1, "Number of cores for each worker, where there are no GPUs.", lower_bound=1)
# sample
flags.DEFINE_integer("num", None, "sample: number of images.", lower_bound=1)
define_temperatures(description="sample: factor of every prior's scale, as in sample.py.")
define_statistics()
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "sample: mean of the likelihood, or a sample of it.")
# encode and score
define_images(prepares=False)
define_path("files", None, "Pattern of image files, such as 'photos/**/*.jpg', instead of --data_dir and --split.")
flags.DEFINE_integer("max_images", 0, "encode, score: only the first images; 0 for all.", lower_bound=0)
flags.DEFINE_enum("draw", "mean", ["mean", "sample"], "encode: mean of each posterior, or a sample of it.")
flags.DEFINE_list("what", ["latents"], f"encode: what to write, some of {', '.join(PARTS)}, separated by commas.")
flags.DEFINE_integer("num_samples", 1, "score: number K of posterior samples per image.", 1, 2**24 - 1)
_JOBS_OF_FLAG = {
    **dict.fromkeys(["num", "temperature", "bn_temperature", "pixels"], ["sample"]),
    **dict.fromkeys(["data_dir", "split", "accept_changed_data", "files", "max_images"], ["encode", "score"]),
    **dict.fromkeys(["draw", "what"], ["encode"]),
    "num_samples": ["score"],
}
flags.register_validator(
    "what",
    lambda parts: bool(parts) and set(parts) <= set(PARTS),
    message=f"expected some of {', '.join(PARTS)}, separated by commas",
)
flags.register_multi_flags_validator(
    ["shard_size", "batch_size"],
    lambda values: values["shard_size"] % values["batch_size"] == 0,
    message="expected --shard_size to be a multiple of --batch_size",
)
flags.mark_flags_as_mutual_exclusive(["files", "data_dir"])


@flags.multi_flags_validator(["job", "num"], message="expected --num with --job=sample")
def _has_number(values):
    return values["job"] != "sample" or values["num"] is not None


def _sampling(config):
    """(job, number of images, what they depend on besides the weights)."""
    from nvae_tf.models.noise import group_temperatures
    from nvae_tf.runs.bulk.jobs import Sampling

    temperatures = group_temperatures([float(value) for value in FLAGS.temperature], config.model)
    depends = {"seed": FLAGS.seed, "temperature": temperatures, "pixels": FLAGS.pixels}
    # As in sample.py: a batch is never larger than what is drawn.
    size = min(FLAGS.batch_size, FLAGS.num)
    return Sampling(temperatures, FLAGS.pixels, FLAGS.seed, size), FLAGS.num, depends


def _of_images(config):
    """The same for a job on images."""
    from nvae_tf.data.fingerprint import files_digest
    from nvae_tf.runs.bulk.images import open_files, open_run_images
    from nvae_tf.runs.bulk.jobs import Encoding, Scoring
    from nvae_tf.runs.data import check_data
    from nvae_tf.runs.data_record import DataRecord

    if FLAGS.job == "encode":
        layout(config.model, FLAGS.what)  # which may lack a part
    if FLAGS.files:
        images = open_files(config, FLAGS.files, FLAGS.max_images)
    else:
        record = DataRecord(FLAGS.run_dir, FLAGS.accept_changed_data)
        images = open_run_images(config, FLAGS.data_dir, FLAGS.split, FLAGS.max_images, record)
    print(f"{len(images)} images, {images.split.source}", flush=True)
    size = min(FLAGS.batch_size, len(images))
    given = (images, check_data(config).padding, FLAGS.seed, size)
    depends = {"seed": FLAGS.seed, "split": None if FLAGS.files else FLAGS.split}
    depends |= {"files": files_digest([images], times=False)}
    if FLAGS.job == "score":
        return Scoring(*given, FLAGS.num_samples), len(images), depends | {"num_samples": FLAGS.num_samples}
    depends |= {"draw": FLAGS.draw, "what": sorted(FLAGS.what)}
    return Encoding(*given, FLAGS.draw, sorted(FLAGS.what)), len(images), depends


def main():
    for name, jobs in _JOBS_OF_FLAG.items():
        if FLAGS[name].present and FLAGS.job not in jobs:
            raise ValueError(f"--{name}: expected with --job={' or '.join(jobs)}. Received: --job={FLAGS.job}")
    for name in ("split", "accept_changed_data"):
        if FLAGS.files and FLAGS[name].present:
            raise ValueError(f"--{name}: expected without --files, which has no splits. Received: both")
    from nvae_tf.runs.bulk.engine import import_ray, write_shards

    import_ray()
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # they belong to the workers
    with only_writer(FLAGS.out):
        from nvae_tf.runs.bulk.shards import Work
        from nvae_tf.runs.load import choose_weights
        from nvae_tf.runs.provenance import weights
        from nvae_tf.runs.starts import run_config

        config = run_config(FLAGS.run_dir, FLAGS.step)
        chosen = choose_weights(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature)
        job, num_images, depends = (_sampling if FLAGS.job == "sample" else _of_images)(config)
        form = FLAGS.format or ("webdataset" if FLAGS.job == "sample" else "parquet")
        work = Work(FLAGS.job, job, chosen, form, pathlib.Path(FLAGS.out).absolute(), num_images, FLAGS.shard_size)
        work.begin({"weights": weights(FLAGS.run_dir, chosen, FLAGS.bn_temperature), **depends})
        finished = work.finished()
        missing = [number for number in range(work.num_shards) if number not in finished]
        done = sum(work.size(number) for number in finished)
        damaged = done - sum(shard.num_images for shard in finished.values())
        progress = Progress(num_images, done)
        if finished:
            print(f"{len(finished)} shards of {work.num_shards} are finished", flush=True)
        if missing:
            for number in write_shards(work, missing, FLAGS.address, FLAGS.cpus_per_worker):
                done += work.size(number)
                damaged += work.num_damaged(number)
                if damaged > config.data.max_damaged:
                    limit = config.data.max_damaged
                    raise ValueError(f"data.max_damaged: expected at most {limit} damaged images. Received: {damaged}")
                progress(done)
        shards = work.end()
    count = sum(shard.num_images for shard in shards)
    left_out = f", {damaged} damaged images left out" if damaged else ""
    print(f"written: {FLAGS.out}, {count} images in {len(shards)} shards{left_out}")


if __name__ == "__main__":
    run(main, interrupted="interrupted; the same command resumes")
