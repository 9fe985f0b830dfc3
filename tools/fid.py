r"""Computes FID, KID, precision and recall of samples against a data set, on features of an Inception graph.

    python tools/fid.py --run_dir=runs/cifar10 --data_dir=data --inception=inception-2015-12-05.tgz
    python tools/fid.py --run_dir=runs/cifar10 --statistics=cifar10_train.npz --inception=... --temperature=0.7

writes RUN_DIR/fid.json. The figures compare with published ones only with that Inception file, 50,000 samples and the
split of the published figures. Images are rounded to 8 bits, grey is repeated for RGB, and the graph resizes them. The
features of the data set are cached in RUN_DIR/fid_cache.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import sys

from absl import flags

from nvae_tf.files import check_writable, write_json
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import run_config
from tools.flags import (
    chosen_strategy,
    define_data_dir,
    define_devices,
    define_output,
    define_path,
    define_run,
    define_statistics,
    define_temperatures,
    results_folder,
    run,
    run_images,
)

FLAGS = flags.FLAGS

define_run()
define_path("inception", None, "Frozen graph: inception-2015-12-05.tgz, or the .pb file in it.")
flags.DEFINE_string("inception_input", "ExpandDims:0", "Tensor of the graph that takes images [B, H, W, 3], 0 to 255.")
flags.DEFINE_string("inception_output", "pool_3:0", "Tensor of the graph with the features.")
define_data_dir()
flags.DEFINE_enum("split", "train", ["train", "validation", "test"], "Images to compare with.")
define_path("statistics", None, "Compare with the mu and sigma in this .npz instead of images: FID only.")
_OUT = define_output("JSON file of the figures; RUN_DIR/fid.json if not given.", ".json")
_SAVE_STATISTICS = define_output("Write mu and sigma of the data set to this .npz.", ".npz", name="save_statistics")
define_path("features_dir", None, "Folder for the data set's features; RUN_DIR/fid_cache if not given.")
flags.DEFINE_integer("num_samples", 50_000, "Number of images to draw from the model.", lower_bound=2)
flags.DEFINE_integer("batch_size", 64, "Number of images processed at once.", lower_bound=1)
define_temperatures()
define_statistics()
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "Mean of the likelihood, or a sample of it.")
flags.DEFINE_integer("seed", 0, "Seed of samples, binarisation, kept features and KID's subsets.", lower_bound=0)
define_devices()
flags.register_validator(
    "inception",
    lambda path: path is not None and os.path.isfile(path),
    message="expected an existing file. FID and KID are defined by the features of one network, which is not part of "
    "this project: that of inception-2015-12-05.tgz (about 89 MB; "
    "https://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz), whose "
    "classify_image_graph_def.pb serves as well. Get one of them and give it as --inception=FILE",
)
flags.register_multi_flags_validator(
    ["statistics", "save_statistics"],
    lambda values: None in values.values(),
    message="expected one of --statistics and --save_statistics",
)

_DATA_BIT_DEPTH = 8  # the data set itself, whatever the model's bit depth
_MAX_FEATURES = 10_000  # of each set, for KID, precision and recall


def _prepare():
    """(extractor, model, strategy, temperatures, images, data): everything that can fail because of a flag."""
    from nvae_tf.evaluation.fid.features import Features, load_moments
    from nvae_tf.evaluation.fid.inception import InceptionFeatures
    from nvae_tf.models.noise import group_temperatures
    from nvae_tf.runs.families import require_folding
    from nvae_tf.runs.load import load_folded

    config, strategy = run_config(FLAGS.run_dir, FLAGS.step), chosen_strategy()
    if FLAGS.bn_temperature is not None:
        require_folding(config, "--bn_temperature")
    temperatures = group_temperatures([float(value) for value in FLAGS.temperature], config.model)
    extractor = InceptionFeatures(FLAGS.inception, FLAGS.inception_input, FLAGS.inception_output)
    shape = config.model
    extractor.check(shape.image_height - 2 * shape.padding, shape.image_width - 2 * shape.padding)
    data = Features(None, *load_moments(FLAGS.statistics, extractor.dim), None) if FLAGS.statistics else None
    images = None if FLAGS.statistics else run_images(config)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature, strategy)
    return extractor, model, strategy, temperatures, images, data


def warn_of_few(name, count, dim):
    """Warns if there are so few images that the covariance is singular."""
    if count <= dim:
        print(
            f"warning: {count} {name} images for {dim} features: the covariance is singular and FID far too large; "
            f"use more than {dim}",
            file=sys.stderr,
            flush=True,
        )


def data_batches(images, config):
    """Images of the data set without padding, uint8 [B, H, W, 3]."""
    from nvae_tf.data.batches import eval_batches
    from nvae_tf.evaluation.fid.inception import to_rgb
    from nvae_tf.models.pixels import crop_padding

    for batch in eval_batches(images, config.data, _DATA_BIT_DEPTH, FLAGS.batch_size, FLAGS.seed):
        yield to_rgb(crop_padding(batch.numpy(), config.model.padding))


def sample_batches(model, strategy, temperatures):
    """Samples of the model, uint8 [B, H, W, 3]."""
    from nvae_tf.evaluation.fid.inception import to_rgb
    from nvae_tf.evaluation.sampling import sample_images

    size = min(FLAGS.batch_size, FLAGS.num_samples)
    for first in range(0, FLAGS.num_samples, size):
        # The last batch is drawn in full and then cut: one trace serves all.
        options = {"batch_size": size, "pixels": FLAGS.pixels, "first": first, "strategy": strategy}
        images = sample_images(model, size, temperatures, FLAGS.seed, **options)
        yield to_rgb(images[: FLAGS.num_samples - first])


def data_features(extractor, images, config):
    """`collect` of the data set, from the cache if the same images passed through the same graph before."""
    from nvae_tf.evaluation.fid.features import collect, load_features, save_features

    settings = [extractor.sha256, FLAGS.inception_input, FLAGS.inception_output, extractor.resizing]
    digest = hashlib.sha256(json.dumps([*settings, _MAX_FEATURES, FLAGS.seed]).encode())
    for batch in data_batches(images, config):
        for image in batch:  # one by one, so that the batch size changes nothing
            digest.update(f"{image.shape}".encode() + image.tobytes())
    folder = pathlib.Path(FLAGS.features_dir or results_folder(FLAGS.run_dir) / "fid_cache")
    path = folder / f"{digest.hexdigest()}.npz"
    if path.exists():
        print(f"features of the data set: {path}", flush=True)
        return load_features(path)
    total = len(images.good)
    batches, progress = data_batches(images, config), Progress(total)
    result = collect(extractor, batches, total, _MAX_FEATURES, FLAGS.seed, progress)
    with contextlib.suppress(OSError):  # the next call computes them again
        folder.mkdir(parents=True, exist_ok=True)
        save_features(path, result)
    return result


def context(extractor, model, temperatures):
    """What the figures depend on, for the JSON."""
    from nvae_tf.evaluation.fid.distances import NEIGHBOURS, NUM_SUBSETS, SUBSET_SIZE

    names = ("num_samples", "bn_temperature", "pixels", "seed", "statistics", "inception_input", "inception_output")
    return {
        **{name: FLAGS[name].value for name in names},
        "max_features": _MAX_FEATURES,
        "temperature": temperatures,
        "step": model.restored_step,
        "ema": model.averaged,
        "dataset": model.config.data.dataset,
        "split": None if FLAGS.statistics else FLAGS.split,
        "inception": os.path.basename(FLAGS.inception),
        "inception_sha256": extractor.sha256,
        "num_features": extractor.dim,
        "resizing": extractor.resizing,
        "kid_subset_size": SUBSET_SIZE,
        "kid_subsets": NUM_SUBSETS,
        "neighbours": NEIGHBOURS,
    }


def main():
    from nvae_tf.checkpoint.figures import weights_in_words
    from nvae_tf.evaluation.fid.distances import compare_features
    from nvae_tf.evaluation.fid.features import collect, save_moments

    path, statistics = _OUT("fid.json", optional=True), _SAVE_STATISTICS()
    if FLAGS.features_dir:
        check_writable(FLAGS.features_dir)
    extractor, model, strategy, temperatures, images, data = _prepare()
    config = model.config
    if images is not None:
        print(f"{config.data.dataset} {FLAGS.split}: {len(images)} images", flush=True)
        warn_of_few("data", len(images), extractor.dim)
        data = data_features(extractor, images, config)
        if statistics:
            save_moments(statistics, data.mean, data.covariance)
            print(f"written: {statistics}", flush=True)
    print(f"{FLAGS.num_samples} samples, step {model.restored_step}, {weights_in_words(model.averaged)}", flush=True)
    warn_of_few("sampled", FLAGS.num_samples, extractor.dim)
    drawn, progress = sample_batches(model, strategy, temperatures), Progress(FLAGS.num_samples)
    features = collect(extractor, drawn, FLAGS.num_samples, _MAX_FEATURES, FLAGS.seed, progress)
    figures = compare_features(features, data, FLAGS.seed)
    for name, value in figures.items():
        print(f"{name:<12}{'-' if value is None else f'{value:.6g}':>14}")
    if path:
        counted = {"num_data_images": data.count, "run_images": images and images.of_run}
        write_json(path, {**figures, **counted, **context(extractor, model, temperatures)})
        print(f"written: {path}")


if __name__ == "__main__":
    run(main)
