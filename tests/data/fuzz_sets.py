"""Small valid data sets of every format, by other writers than the package's; kind.json is for read_mutants.py."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import lmdb
import numpy as np
import scipy.io
import tensorflow as tf
from PIL import Image

RANDOM = np.random.default_rng(0)
SIZE = 8
PIXELS = RANDOM.integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
RGB = Image.fromarray(PIXELS[0])


def encoded(image, kind="PNG", **arguments):
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def put(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def images(image, suffix, **arguments):
    """A folder with four images, of which one is damaged later."""

    def write(folder):
        put(folder, {f"train/{index}.png": encoded(RGB) for index in range(2)} | {"test/0.png": encoded(RGB)})
        put(folder, {f"train/2{suffix}": encoded(image, **arguments)})
        return {"targets": [f"train/2{suffix}"], "intact": 3, "resize": True}

    return write


TURNED = Image.Exif()
TURNED[0x0112] = 6


def idx(count):
    return struct.pack(">4I", 0x803, count, 28, 28) + RANDOM.integers(0, 256, (count, 28, 28), np.uint8).tobytes()


def write_idx(folder):
    put(folder, {"train-images-idx3-ubyte": idx(3), "t10k-images-idx3-ubyte": idx(1)})
    return {"dataset": "mnist", "size": 32, "channels": 1}


def write_idx_gz(folder):
    put(folder, {f"{split}-images-idx3-ubyte.gz": gzip.compress(idx(2)) for split in ("train", "t10k")})
    return {"dataset": "mnist", "size": 32, "channels": 1}


def cifar_rows(count):
    return RANDOM.integers(0, 256, (count, 3072), np.uint8)


def write_cifar(folder):
    for name in ("data_batch_1.bin", "test_batch.bin"):
        put(folder, {name: b"".join(b"\7" + row.tobytes() for row in cifar_rows(2))})
    return {"dataset": "cifar10", "size": 32}


def pickled(count, protocol):
    return pickle.dumps({b"data": cifar_rows(count), b"labels": [3] * count, b"batch_label": b"one"}, protocol)


def write_cifar_pickles(protocol):
    def write(folder):
        put(folder, {name: pickled(2, protocol) for name in ("data_batch_1", "test_batch")})
        return {"dataset": "cifar10", "size": 32}

    return write


def write_cifar_tar(folder):
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("data_batch_1", "test_batch"):
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            data = pickled(1, 2)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return {"dataset": "cifar10", "size": 32}


def write_imagenet_pickles(folder):
    put(folder, {name: pickled(2, 2) for name in ("train_data_batch_1", "val_data")})
    return {"dataset": "imagenet32_2021", "size": 32}


def write_imagenet_npz(folder):
    for name in ("train_data_batch_1", "val_data"):
        np.savez_compressed(folder / f"{name}.npz", data=cifar_rows(2), labels=np.arange(2))
    return {"dataset": "imagenet32_2021", "size": 32}


def write_mat(compressed):
    def write(folder):
        arrays = {"data": RANDOM.random((784, 3)), "testdata": RANDOM.random((784, 2)), "target": np.eye(3)}
        scipy.io.savemat(folder / "chardata.mat", arrays, do_compression=compressed)
        return {"dataset": "omniglot", "size": 28, "channels": 1}

    return write


def example(**features):
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path, records):
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write_glow(folder):
    records = [example(shape=list(image.shape), data=image.tobytes(), label=[1]) for image in PIXELS]
    for number in range(2):
        write_records(folder / "train" / f"x-r03-000{number}-of-0002.tfrecords", records[number::2])
    write_records(folder / "validation" / "x-r03-0000-of-0001.tfrecords", records[:1])
    return {}


def write_prepared(folder):
    splits = {}
    for split, chosen in (("train", PIXELS), ("test", PIXELS[:1])):
        name = f"{split}-00000-of-00001.tfrecord"
        write_records(
            folder / name, [example(**{"image/encoded": encoded(Image.fromarray(image))}) for image in chosen]
        )
        shard = {"file": name, "num_images": len(chosen), "bytes": (folder / name).stat().st_size, "sha256": "0" * 64}
        splits[split] = {"num_images": len(chosen), "damaged": [], "mean": [1.0, 2.0, 3.0], "shards": [shard]}
    manifest = {"format": "nvae_tf prepared images", "version": 1, "dataset": "folder", "source": "zip"}
    manifest |= {"image_height": SIZE, "image_width": SIZE, "channels": 3, "resize": False, "split_seed": 0}
    manifest |= {"test_fraction": 0.1, "images_per_shard": 8, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return {}


def write_lmdb(path, values):
    with lmdb.open(str(path), map_size=1 << 20, subdir=True) as environment, environment.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)
    (path / "lock.mdb").unlink()


def write_numbered_lmdb(folder):
    big = encoded(Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), np.uint8)))  # takes pages of its own
    values = [*(image.tobytes() for image in PIXELS), big, *(encoded(Image.fromarray(image)) for image in PIXELS)] * 4
    write_lmdb(folder / "train.lmdb", {b"%d" % index: value for index, value in enumerate(values)})
    write_lmdb(folder / "validation.lmdb", {b"0": PIXELS[0].tobytes()})
    return {"resize": True}


def write_lsun_lmdb(folder):
    for split, count in (("train", 40), ("val", 1)):
        values = {b"%040d" % index: encoded(RGB, "WEBP", lossless=True) for index in range(count)}
        write_lmdb(folder / f"church_outdoor_{split}_lmdb", values)
    return {"dataset": "lsun_church64"}


def write_zip(folder):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(4):
            method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)[index % 3]
            archive.writestr(f"{'test' if index == 3 else 'train'}/{index}.png", encoded(RGB), method)
    return {"resize": True}


def write_npy(folder):
    np.save(folder / "train.npy", PIXELS)
    np.save(folder / "test.npy", PIXELS[:1, ..., 0])
    return {"resize": True}


def write_npz(folder):
    np.savez_compressed(folder / "a.npz", x_train=PIXELS, x_test=PIXELS[:1])
    return {"resize": True}


def write_celeba(folder):
    put(folder, {f"img_align_celeba/{index:06}.jpg": encoded(RGB, "JPEG") for index in range(4)})
    put(folder, {"list_eval_partition.txt": b"000000.jpg 0\n000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"})
    return {"dataset": "celeba64", "size": 64, "targets": ["list_eval_partition.txt"], "resize": True}


KINDS = {
    "png-rgb": images(RGB, ".png"),
    "png-rgba": images(Image.fromarray(RANDOM.integers(0, 256, (SIZE, SIZE, 4), np.uint8)), ".png", exif=TURNED),
    "png-palette": images(RGB.quantize(), ".png", transparency=3),
    "png-grey": images(RGB.convert("LA"), ".png"),
    "png-bits": images(RGB.convert("1"), ".png"),
    "png-deep": images(Image.fromarray(RANDOM.integers(0, 65536, (SIZE, SIZE), np.uint16)), ".png"),
    "png-animated": images(RGB, ".png", save_all=True, append_images=[RGB.convert("L").convert("RGB")]),
    "jpeg": images(RGB, ".jpg", kind="JPEG", exif=TURNED),
    "jpeg-progressive": images(RGB, ".jpg", kind="JPEG", progressive=True),
    "jpeg-cmyk": images(RGB.convert("CMYK"), ".jpg", kind="JPEG"),
    "webp": images(RGB, ".webp", kind="WEBP", exif=TURNED),
    "webp-lossless": images(RGB.convert("RGBA"), ".webp", kind="WEBP", lossless=True),
    "bmp": images(RGB, ".bmp", kind="BMP"),
    "bmp-palette": images(RGB.quantize(), ".bmp", kind="BMP"),
    "idx": write_idx,
    "idx-gz": write_idx_gz,
    "idx-stacked": lambda folder: write_idx(folder) | {"dataset": "stacked_mnist", "channels": 3},
    "cifar-binary": write_cifar,
    "cifar-pickle-0": write_cifar_pickles(0),
    "cifar-pickle-2": write_cifar_pickles(2),
    "cifar-pickle-5": write_cifar_pickles(5),
    "cifar-tar": write_cifar_tar,
    "imagenet-pickle": write_imagenet_pickles,
    "imagenet-npz": write_imagenet_npz,
    "mat": write_mat(False),
    "mat-compressed": write_mat(True),
    "glow": write_glow,
    "prepared": write_prepared,
    "lmdb": write_numbered_lmdb,
    "lmdb-lsun": write_lsun_lmdb,
    "zip": write_zip,
    "npy": write_npy,
    "npz": write_npz,
    "celeba-list": write_celeba,
}


def write_all(root):
    """Writes ROOT/KIND/ for every kind."""
    for name, write in KINDS.items():
        folder = root / name
        folder.mkdir(parents=True)
        kind = {"dataset": "folder", "size": SIZE, "channels": 3, "intact": 0} | write(folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        kind.setdefault("targets", files)
        (folder / "kind.json").write_text(json.dumps(kind))
