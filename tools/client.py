r"""Sends requests for an exported model to a server of TensorFlow Serving's protocol.

    python tools/client.py status
    python tools/client.py sample --num=64 --temperature=0.7 --out=samples.png --images_dir=samples
    python tools/client.py reconstruct --images=a.png,b.jpg --out=reconstructions.png
    python tools/client.py interpolate --images=a.png,b.png --frames=16 --out=way.png
    python tools/client.py interpolate --seeds=1,2 --temperature=0.7 --out=way.png
    python tools/client.py score --images=a.png,b.png            (JSON lines; images of the model's size)
    python tools/client.py encode --images=a.png,b.png --out=latents.npz

The server is given by --host, --port, --protocol=grpc|rest, --model, --version or --label, --timeout, --max_message_mb
and --tls. The first image or score has the seed --seed, and each further one the next seed.
"""

import json
import os
import pathlib
import re

import numpy as np
from absl import app, flags

from nvae_tf.evaluation.write_images import check_no_images
from nvae_tf.files import check_writable, new_file, write_text
from tools.flags import define_path, define_server, define_temperature, make_transport, run

FLAGS = flags.FLAGS

# The suffix of the output of each command; status has none.
_SUFFIXES = {"status": None, "sample": ".png", "reconstruct": ".png", "interpolate": ".png"}
_SUFFIXES |= {"score": ".jsonl", "encode": ".npz"}

define_server()
flags.DEFINE_enum("protocol", "grpc", ["grpc", "rest"], "Protocol to use.")
flags.DEFINE_integer("port", None, "Port of the server; by default 8500 for gRPC and 8501 for REST.", 1, 65535)
define_path("out", None, "Output file: .png for images, .npz for encode, .jsonl for score (else printed).")
define_path("images_dir", None, "Folder for each image as a PNG as well: 000000.png ...; created if needed.")
flags.DEFINE_list("images", None, "PNG or JPEG files, separated by commas; two for interpolate.")
flags.DEFINE_integer("num", 16, "Number of images for sample.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the first image; each further image has the next seed.")
flags.DEFINE_list("seeds", None, "Two seeds, separated by a comma, for interpolate in place of --images.")
define_temperature("Factor of the scale with which the model draws.")
flags.DEFINE_integer("frames", 16, "Number of images for interpolate, including both ends.", lower_bound=2)
flags.DEFINE_integer("batch_size", 16, "Maximum rows per request; at most what the server allows.", lower_bound=1)
flags.register_validator(
    "seeds",
    lambda texts: texts is None or all(re.fullmatch(r"-?[0-9]+", text) for text in texts),
    message="expected whole numbers separated by a comma",
)


def make_client():
    """The `Client` that the flags describe."""
    from nvae_tf.serving.client import Client

    transport = make_transport(FLAGS.protocol, FLAGS.port)
    return Client(transport, FLAGS.model, FLAGS.version, FLAGS.label, FLAGS.timeout)


def in_batches(request, *columns):
    """Outputs, `{name: array}`, of request(*rows) for batches of the columns, arrays or lists of equal length."""
    size, starts = FLAGS.batch_size, range(0, len(columns[0]), FLAGS.batch_size)
    parts = [request(*(column[start : start + size] for column in columns)) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_files():
    """Contents of --images, each a complete PNG or JPEG."""
    from nvae_tf.serving.read_images import open_picture

    if not FLAGS.images:
        raise ValueError("--images: expected files separated by commas. Received: none")
    contents = [pathlib.Path(path).expanduser().read_bytes() for path in FLAGS.images]
    for path, content in zip(FLAGS.images, contents, strict=True):
        open_picture(f"--images: {path}", content)
    return contents


def seeds(count):
    """Consecutive seeds starting at --seed."""
    return list(range(FLAGS.seed, FLAGS.seed + count))


def status(client):
    """Prints the states of the versions, and the signatures if one is available."""
    statuses = client.status()
    for version in statuses:
        print(f"version {version.version}: {version.state} {version.error}".rstrip())
    if any(version.state == "AVAILABLE" for version in statuses):
        version, signatures = client.metadata()
        print(f"version {version} answers: {', '.join(sorted(signatures))}")


def interpolation(client):
    """Outputs for --frames images from one image, or seed, to another."""
    alpha = np.linspace(0.0, 1.0, FLAGS.frames, dtype=np.float32)
    if [len(ends) for ends in (FLAGS.seeds, FLAGS.images) if ends] != [2]:
        raise ValueError(f"--images, --seeds: expected two of either. Received: {FLAGS.images} and {FLAGS.seeds}")
    ends = [[end] * FLAGS.frames for end in (map(int, FLAGS.seeds) if FLAGS.seeds else read_files())]
    if FLAGS.seeds:
        return in_batches(lambda *rows: client.interpolate_seeds(*rows, FLAGS.temperature), *ends, alpha)
    return in_batches(client.interpolate, *ends, alpha)


def pictures(client, command):
    """Writes the images of a command to --out and, if it is given, to --images_dir."""
    from nvae_tf.evaluation.write_images import save_grid, save_images

    if command == "sample":
        outputs = in_batches(lambda rows: client.sample(rows, FLAGS.temperature), seeds(FLAGS.num))
    elif command == "interpolate":
        outputs = interpolation(client)
    else:
        files = read_files()
        outputs = in_batches(lambda *rows: client.reconstruct(*rows, FLAGS.temperature), files, seeds(len(files)))
    images = outputs["image"] / np.float32(255)
    save_grid(FLAGS.out, images, FLAGS.frames if command == "interpolate" else None)
    print(f"written: {FLAGS.out}")
    if FLAGS.images_dir:
        save_images(FLAGS.images_dir, images)
        print(f"written: {len(images)} images in {FLAGS.images_dir}")


def score(client):
    """Writes a JSON object for each of --images: file, NELBO in nats, bits per dimension, KL of each group in nats."""
    from nvae_tf.serving.read_images import read_picture

    contents, shape = read_files(), client.signature("score").inputs["image"].shape[1:]
    files = zip(FLAGS.images, contents, strict=True)
    pixels = np.stack([read_picture(f"--images: {path}", content, shape) for path, content in files])
    scores = in_batches(client.score, pixels, seeds(len(pixels)))
    lines = [
        json.dumps({"file": path, **{name: values[row].tolist() for name, values in sorted(scores.items())}})
        for row, path in enumerate(FLAGS.images)
    ]
    if FLAGS.out:
        write_text(FLAGS.out, "".join(f"{line}\n" for line in lines))
        print(f"written: {FLAGS.out}")
    else:
        print("\n".join(lines))


def _encode(client):
    """Writes the latents, noise and KL of --images to --out."""
    encoded = in_batches(client.encode, read_files())
    with new_file(FLAGS.out) as temporary:
        np.savez(temporary, files=np.array(FLAGS.images), **encoded)
    print(f"written: {FLAGS.out}")


def main(words):
    if len(words) != 1 or words[0] not in _SUFFIXES:
        raise app.UsageError(f"expected one of {', '.join(_SUFFIXES)}. Received: {words}")
    (command,) = words
    suffix = _SUFFIXES[command]
    if suffix and (FLAGS.out or command != "score"):
        folder = os.path.dirname(FLAGS.out or "") or "."
        if not ((FLAGS.out or "").endswith(suffix) and os.path.isdir(folder)):
            expected = f"expected a name ending in {suffix} in an existing folder"
            raise app.UsageError(f"--out: {expected}. Received: {FLAGS.out}")
        check_writable(folder)
    if FLAGS.images_dir:
        check_no_images(FLAGS.images_dir)
    with make_client() as client:
        if suffix == ".png":
            pictures(client, command)
        else:
            {"status": status, "score": score, "encode": _encode}[command](client)


if __name__ == "__main__":
    run(main, takes_words=True)
