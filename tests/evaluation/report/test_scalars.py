import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.report.scalars import read_scalars


def _write(folder, steps, value, suffix):
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
    for step in steps:
        with writer.as_default(step):
            tf.summary.scalar("train/loss", value + step)
            tf.summary.image("samples", np.zeros((1, 2, 2, 1), np.uint8))
            tf.summary.text("note", "words")
    writer.close()


def _files(folder):
    return sorted(folder.glob("events.out.tfevents.*"))


def _as_pairs(scalars):
    return [(scalar.step, scalar.value) for scalar in scalars]


def test_reads_scalars_alone(tmp_path):
    _write(tmp_path, [1, 2, 3], 10.0, ".a")
    scalars = read_scalars(tmp_path)
    assert list(scalars) == ["train/loss"]
    assert _as_pairs(scalars["train/loss"]) == [(1, 11.0), (2, 12.0), (3, 13.0)]
    assert all(scalar.time > 1e9 and scalar.file == 0 for scalar in scalars["train/loss"])


def test_what_a_run_that_went_back_had_written_is_left_out(tmp_path):
    _write(tmp_path, [1, 2, 3, 4], 10.0, ".a")
    _files(tmp_path)[0].rename(tmp_path / "events.out.tfevents.1000000000.a")
    _write(tmp_path, [3, 5], 20.0, ".b")
    received = read_scalars(tmp_path)["train/loss"]
    assert _as_pairs(received) == [(1, 11.0), (2, 12.0), (3, 23.0), (5, 25.0)]
    assert [scalar.file for scalar in received] == [0, 0, 1, 1]


def test_a_file_that_was_cut_short_counts_as_far_as_it_goes(tmp_path):
    _write(tmp_path, [1, 2, 3], 10.0, ".a")
    (path,) = _files(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    assert _as_pairs(read_scalars(tmp_path)["train/loss"])[:2] == [(1, 11.0), (2, 12.0)]


def test_no_files_no_scalars(tmp_path):
    assert read_scalars(tmp_path) == {} and read_scalars(tmp_path / "nowhere") == {}
