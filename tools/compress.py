r"""Compresses images without loss with a trained model, and decompresses them.

    python tools/compress.py compress --run_dir=runs/mnist --input=digits.npy --out=digits.nvz
    python tools/compress.py compress --run_dir=runs/mnist --dataset=mnist --data_dir=data --out=test.nvz
    python tools/compress.py decompress --run_dir=runs/mnist --input=digits.nvz --out=digits.npy
    python tools/compress.py list --input=digits.nvz
    python tools/compress.py report --run_dir=runs/mnist --dataset=mnist --data_dir=data --max_images=1000

--input of compress is a .npy file of uint8 [N, H, W] or [N, H, W, C], or a folder of pictures, of the size of the
model's images without padding. An image must consist of values that the model gives a probability: black and white for
a Bernoulli model (0 and 255, or 0 and 1), and 32 levels for one of 5 bits. --quantize, and a data set by its name,
take the images as evaluate.py sees them: reduced to these values, and it is those that decompression returns.

decompress needs the same model, and a machine that computes the same numbers: if it does not, the program says so. What
it returns is always what was compressed. `list` needs no model, and says whether the file is intact. An interrupted
`compress` or `decompress` goes on with the same command.
"""

import dataclasses
import os
import pathlib

from absl import app, flags

from nvae_tf.runs.progress import Progress
from tools.flags import define_images, define_output, define_path, define_run, run, run_images

FLAGS = flags.FLAGS

_STEPS = 32
# The suffix of --out; `list` writes nothing, `report` only if it is given.
_SUFFIXES = {"compress": ".nvz", "decompress": ".npy", "list": None, "report": ".nvz"}

define_run(required=False)
define_images()
define_path("input", None, "File or folder to read: .npy or pictures; .nvz for decompress and list.")
flags.DEFINE_string("dataset", None, "Compress images of this data set instead of --input; see --data_dir, --split.")
flags.DEFINE_integer("max_images", 0, "Compress only the first images; 0 for all.", lower_bound=0)
flags.DEFINE_bool("quantize", False, "Compress the images of --input as evaluate.py sees them.")
_OUT = define_output("File to write: .nvz, or .npy for decompress.", ".nvz", ".npy")
flags.DEFINE_bool("verify", True, "Decode every chunk again before it is written.")
flags.DEFINE_integer(
    "chunk_images", 0, "Images of each chunk, which can be decoded by itself; 0 for at most 1000.", lower_bound=0
)
flags.DEFINE_list("chunks", None, "Numbers of the chunks to decompress; all if not given.")
flags.DEFINE_integer("batch_size", 0, "Images that the model takes at once; 0 for at most 16.", lower_bound=0)
flags.DEFINE_integer(
    "steps", _STEPS, "Steps of the latents' grid in a standard deviation of the prior.", lower_bound=1, upper_bound=4096
)
flags.DEFINE_integer("processes", 1, "Processes among which chunks are divided.", lower_bound=1)
flags.register_validator(
    "input", lambda path: path is None or os.path.exists(path), message="expected an existing file or folder"
)
flags.register_validator(
    "chunks",
    lambda texts: texts is None or (bool(texts) and all(text.isascii() and text.isdigit() for text in texts)),
    message="expected whole numbers from 0, separated by commas",
)


def data_set_images(config):
    """`ImageSet` of --dataset; that of the run is compared with the images that it was trained on."""
    from nvae_tf.runs.data import load_images

    if FLAGS.dataset == config.data.dataset:
        return run_images(config, FLAGS.max_images)
    chosen = dataclasses.replace(config, data=dataclasses.replace(config.data, dataset=FLAGS.dataset)).validate()
    return load_images(chosen, FLAGS.data_dir, FLAGS.split, FLAGS.max_images, FLAGS.cache_dir)


def read_levels(config):
    """(levels, uint8 [N, h, w, C], shape of the array of images, its scale) of the images that the flags name."""
    from nvae_tf.compression.levels import full_scale, to_levels
    from nvae_tf.runs.compression_images import evaluation_levels, quantized, read_images

    model, given = config.model, "as evaluate.py sees them"
    if FLAGS.dataset:
        levels = evaluation_levels(data_set_images(config), config, FLAGS.seed)
        shape, scale = levels.shape, full_scale(model)
    else:
        pixels = read_images(FLAGS.input, model)[: FLAGS.max_images or None]
        shape, scale = pixels.shape, full_scale(model)
        if FLAGS.quantize:
            levels = quantized(pixels, config, FLAGS.seed)
        else:
            (levels, scale), given = to_levels(pixels, model, FLAGS.input), "as they are"
    print(f"{len(levels)} images, {given}", flush=True)
    return levels, shape, scale


def load_coder():
    """`RunCoder` of --run_dir."""
    from nvae_tf.runs.compression import RunCoder

    return RunCoder(FLAGS.run_dir, FLAGS.step, FLAGS.ema)


def prepare():
    """(levels of the images that the flags name, `RunCoder`, `Header` of their file)."""
    from nvae_tf.compression.settings import check_supported, default_batch_size, default_chunk_images
    from nvae_tf.runs.starts import run_config

    config = run_config(FLAGS.run_dir, FLAGS.step)
    check_supported(config.model)
    levels, shape, scale = read_levels(config)
    coder = load_coder()
    batch_size = FLAGS.batch_size or default_batch_size(config.model)
    chunk_images = FLAGS.chunk_images or default_chunk_images(config.model)
    return levels, coder, coder.header(levels, shape, scale, FLAGS.steps, batch_size, chunk_images)


def compress(out):
    """Writes --out."""
    from nvae_tf.runs.compression import compress

    levels, coder, header = prepare()
    print(f"writing {out}.partial, then {out}", flush=True)
    compress(levels, out, coder, header, FLAGS.verify, FLAGS.processes, Progress(len(levels)))
    size = out.stat().st_size
    print(f"written: {out}, {size} bytes, {8 * size / levels.size:.4f} bits/dim")


def decompress(out):
    """Writes --out."""
    from nvae_tf.compression.nvz_file import read_chunks
    from nvae_tf.runs.compression import decompress

    numbers = FLAGS.chunks and sorted(set(map(int, FLAGS.chunks)))
    contents = header, found = read_chunks(FLAGS.input, numbers)
    coder = load_coder()
    print(f"writing {out}.partial, then {out}", flush=True)
    progress = Progress(sum(map(header.count, found)))
    shape = decompress(FLAGS.input, contents, out, coder, FLAGS.processes, progress)
    print(f"written: {out}, uint8 {list(shape)}")


def list_chunks():
    """Prints the header of --input and its chunks, after their checksums were compared."""
    from nvae_tf.compression.nvz_file import read_chunks

    header, found = read_chunks(FLAGS.input)
    settings = header.settings
    print(f"images     uint8 {header.shape}, levels times {header.scale}")
    print(f"weights    SHA-256 {header.weights}")
    print(f"config     SHA-256 {header.config}")
    print(f"latents    {settings.steps} steps in a standard deviation of the prior; channels {settings.active}")
    print(f"batches    up to {settings.batch_size} images, one more after every {settings.growth}")
    print("written by", ", ".join(f"{name} {version}" for name, version in header.software.items()))
    print(f"{'chunk':>6}{'images':>16}{'bytes':>12}  pixels (BLAKE2b)")
    for number, chunk in found.items():
        first, count = header.first(number), header.count(number)
        print(f"{number:>6}{f'{first}-{first + count - 1}':>16}{chunk.words.nbytes:>12}  {chunk.digest.hex()}")


def report(out):
    """Prints the sizes of the images by this program and by others."""
    from nvae_tf.runs.compression_report import format_table, measure

    levels, coder, header = prepare()
    print(format_table(*measure(levels, coder, header, out, FLAGS.processes, Progress)), flush=True)


def main(words):
    if len(words) != 1 or words[0] not in _SUFFIXES:
        raise app.UsageError(f"expected one of {', '.join(_SUFFIXES)}. Received: {words}")
    (command,) = words
    needed = {"compress": ["run_dir", "out"], "decompress": ["run_dir", "out", "input"], "list": ["input"]}
    for name in needed.get(command, ["run_dir"]):
        if FLAGS[name].value is None:
            raise app.UsageError(f"--{name}: expected with {command}. Received: none")
    if command in ("compress", "report") and bool(FLAGS.input) == bool(FLAGS.dataset):
        received = "both" if FLAGS.input else "neither"
        raise app.UsageError(f"expected --input or --dataset. Received: {received}")
    suffix = _SUFFIXES[command]
    if suffix and FLAGS.out and pathlib.Path(FLAGS.out).suffix != suffix:
        raise app.UsageError(f"--out: expected a name ending in {suffix}. Received: {FLAGS.out}")
    if command in ("list", "decompress") and pathlib.Path(FLAGS.input).is_dir():
        raise OSError(f"{FLAGS.input}: expected a file. Received: a folder")
    if command == "list":
        list_chunks()
        return
    out = _OUT()
    from nvae_tf.runs.compression import use_one_thread

    use_one_thread()  # before TensorFlow reads images
    {"compress": compress, "decompress": decompress, "report": report}[command](out)


if __name__ == "__main__":
    run(main, takes_words=True, interrupted="interrupted; the same command goes on from here")
