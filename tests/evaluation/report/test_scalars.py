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


def test_a_resumed_run_replaces_what_it_had_written_beyond_its_checkpoint(tmp_path):
    assert read_scalars(tmp_path) == {}
    _write(tmp_path, [1, 2, 3, 4], 10.0, ".a")
    (first,) = tmp_path.iterdir()
    first.rename(tmp_path / "events.out.tfevents.1000000000.a")
    _write(tmp_path, [3, 5], 20.0, ".b")
    scalars = read_scalars(tmp_path)
    assert list(scalars) == ["train/loss"]
    received = scalars["train/loss"]
    assert [(scalar.step, scalar.value) for scalar in received] == [(1, 11.0), (2, 12.0), (3, 23.0), (5, 25.0)]
    assert [scalar.file for scalar in received] == [0, 0, 1, 1] and received[0].time > 1e9
