"""Writers of the formats, which share no code with the readers."""

import gzip
import io
import pathlib
import pickle
import tarfile
import zipfile

import lmdb
import numpy as np
import scipy.io
import tensorflow as tf
from PIL import Image


def encoded(image, kind="PNG", **options):
    """Encodes an image as a file; bytes, which stand for a damaged file, are returned unchanged."""
    if isinstance(image, bytes):
        return image
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


def put(path, data):
    """Writes a file and creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def planes(images):
    """[N, C * H * W]: the red plane of each image, then green, then blue."""
    return np.stack([image.transpose(2, 0, 1).ravel() for image in images])


def idx_bytes(images, magic=0x803):
    header = np.array([magic, *np.shape(images)[:3]], ">u4")
    return header.tobytes() + np.asarray(images).tobytes()


def write_idx(root, splits, compress=bytes, suffix=""):
    for split, images in splits.items():
        stem = {"train": "train", "test": "t10k"}[split]
        put(root / f"{stem}-images-idx3-ubyte{suffix}", compress(idx_bytes(images)))


def write_idx_gz(root, splits):
    write_idx(root, splits, gzip.compress, ".gz")


def cifar_binary(images):
    return b"".join(bytes([9]) + row.tobytes() for row in planes(images))


def cifar_pickle(images):
    count = len(images)
    return pickle.dumps({b"data": planes(images), b"labels": [9] * count, b"filenames": [b"x.png"] * count}, 2)


def cifar_files(splits, kind):
    """{name: bytes} of the batches; the training images are divided into two."""
    encode, suffix = {"bin": (cifar_binary, ".bin"), "py": (cifar_pickle, "")}[kind]
    folder = f"cifar-10-batches-{kind}"
    files = {f"{folder}/test_batch{suffix}": encode(splits["test"])}
    for number, images in ((2, splits["train"][3:]), (1, splits["train"][:3])):
        files[f"{folder}/data_batch_{number}{suffix}"] = encode(images)
    return files


def write_cifar_binary(root, splits, kind="bin"):
    for name, data in cifar_files(splits, kind).items():
        put(root / name, data)


def write_cifar_pickles(root, splits):
    write_cifar_binary(root, splits, "py")


def write_cifar_archive(root, splits, kind="bin"):
    name = {"bin": "binary", "py": "python"}[kind]
    with tarfile.open(root / f"cifar-10-{name}.tar.gz", "w:gz") as archive:
        for name, data in cifar_files(splits, kind).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_cifar_pickle_archive(root, splits):
    write_cifar_archive(root, splits, "py")


def write_batches(root, splits, save):
    """Writes ImageNet's batches; the training images are divided into two, numbered 9 and 10."""
    batches = {"train_data_batch_9": splits["train"][:2], "train_data_batch_10": splits["train"][2:]}
    for name, images in {**batches, "val_data": splits["validation"]}.items():
        save(root / name, {"data": planes(images), "labels": [7] * len(images), "mean": planes(images).mean(0)})


def write_pickled_batches(root, splits, protocol=4):
    write_batches(root, splits, lambda path, batch: put(path, pickle.dumps(batch, protocol)))


def write_npz_batches(root, splits):
    write_batches(root, splits, lambda path, batch: np.savez_compressed(path, **batch))


def write_mat(root, splits):
    columns = {
        split: np.stack([image[..., 0].ravel("F") / 255 for image in images], axis=1)
        for split, images in splits.items()
    }
    contents = {"data": columns["train"], "testdata": columns["test"], "target": np.eye(50)}
    scipy.io.savemat(root / "chardata.mat", contents, do_compression=True)


def omniglot_files(splits):
    folders = {"train": "images_background", "test": "images_evaluation"}
    return {
        f"{folders[split]}/Greek/character{number:02}/1.png": encoded(
            image if isinstance(image, bytes) else 255 - image
        )
        for split, images in splits.items()
        for number, image in enumerate(images)
    }


def write_omniglot_tree(root, splits):
    for name, data in omniglot_files(splits).items():
        put(root / name, data)


def write_omniglot_zips(root, splits):
    for name, data in omniglot_files(splits).items():
        with zipfile.ZipFile(root / f"{name.partition('/')[0]}.zip", "a") as archive:
            archive.writestr(name, data)


def celeba_files(root, splits):
    """Writes the list and returns the images, {name: bytes}."""
    files, lines = {}, []
    for number, split in enumerate(splits):
        for image in splits[split]:
            files[f"{len(files) + 1:06}.jpg"] = encoded(image)
            lines.append(f"{len(files):06}.jpg {number}")
    put(root / "Eval" / "list_eval_partition.txt", "\n".join(lines).encode())
    return files


def write_celeba_tree(root, splits):
    for name, data in celeba_files(root, splits).items():
        put(root / "Img" / "img_align_celeba" / name, data)


def write_celeba_zip(root, splits):
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for name, data in reversed(celeba_files(root, splits).items()):
            archive.writestr(f"img_align_celeba/{name}", data)


def write_folder(root, splits):
    for split, images in splits.items():
        for number, image in enumerate(images):
            put(root / split / f"class{number // 4}" / f"{number}.png", encoded(image))


def write_zip(path, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_one_zip(root, splits):
    files = {
        f"top/{split}/{number}.png": encoded(image)
        for split, images in splits.items()
        for number, image in enumerate(images)
    }
    write_zip(root / "images.zip", files)


def write_zips(root, splits):
    for split, images in splits.items():
        files = {f"{number}.png": encoded(image) for number, image in enumerate(images)}
        write_zip(root / f"{split}_32x32.zip", files, zipfile.ZIP_DEFLATED)


def write_npy(root, splits):
    for split, images in splits.items():
        np.save(root / f"{split}.npy", images)


def write_npz(root, splits):
    arrays = {f"x_{split}": images for split, images in splits.items()}
    np.savez_compressed(root / "set.npz", y_train=np.arange(7), **arrays)


def tf_example(**features):
    """A serialised `tf.train.Example` of ints and bytes."""
    feature = {}
    for name, value in features.items():
        is_bytes = isinstance(value, bytes)
        feature[name] = (
            tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            if is_bytes
            else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        )
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def glow_record(image):
    if isinstance(image, bytes):
        return image
    return tf_example(shape=image.shape, data=image.tobytes(), label=[3])


def write_shards(folder, stem, images, count=2, suffix=".tfrecords"):
    bounds = np.linspace(0, len(images), count + 1).astype(int)
    for number in range(count):
        records = [glow_record(image) for image in images[bounds[number] : bounds[number + 1]]]
        write_records(folder / f"{stem}-{number:04}-of-{count:04}{suffix}", records)


def write_glow(root, splits):
    for split, images in splits.items():
        write_shards(root / split, f"{split}-r05-s", images)


def write_environment(path, values, subdir=True):
    """Writes an LMDB environment with {key: value}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as environment, environment.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)


def write_lmdb(root, splits, value_of=encoded, subdir=True):
    for split, images in splits.items():
        values = {str(number).encode(): value_of(image) for number, image in enumerate(images)}
        write_environment(root / f"{split}.lmdb", values, subdir)


def write_raw_lmdb(root, splits):
    write_lmdb(root, splits, lambda image: image if isinstance(image, bytes) else image.tobytes(), subdir=False)


def write_lsun(root, splits):
    for split, name in (("train", "train"), ("validation", "val")):
        values = {
            b"%04x\0key" % number: encoded(image, "WEBP", lossless=True) for number, image in enumerate(splits[split])
        }
        write_environment(root / "lsun" / f"church_outdoor_{name}_lmdb", values)


def write_tfds(root, splits, keys=("image",), folder="tiny/1.0.0"):
    """Writes a data set in the documented format of TensorFlow Datasets, with two shards for each split."""
    import tensorflow_datasets as tfds

    folder = root / folder
    name, infos = pathlib.PurePath(folder).relative_to(root).parts[0], []
    for split, images in splits.items():
        files = [encoded(image) for image in images]
        shards = files[:2], files[2:]
        for number, shard in enumerate(shards):
            records = [tf_example(label=[1], **dict.fromkeys(keys, file)) for file in shard]
            write_records(folder / f"{name}-{split}.tfrecord-{number:05}-of-00002", records)
        template = tfds.core.ShardedFileTemplate(folder, dataset_name=name, split=split, filetype_suffix="tfrecord")
        lengths = [len(shard) for shard in shards]
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template))
    features = {key: tfds.features.Image(shape=(None, None, 3)) for key in keys}
    features["label"] = tfds.features.ClassLabel(num_classes=3)
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, split_infos=infos, check_data=False)
