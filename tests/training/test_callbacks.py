import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nvae_tf.training import callbacks


def _report():
    """As of `Trainer.advance`: two groups of three channels."""
    scalars = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")
    report = {name: tf.constant(float(i + 1)) for i, name in enumerate(scalars)}
    report["kl_per_group"] = tf.constant([1.25, 0.005])
    report["kl_coefficients"] = tf.constant([0.25, 0.75])
    report["kl_per_channel"] = tf.constant([[1.0, 0.25, 0.0], [0.005, 0.0, 0.0]])
    return report


@pytest.fixture
def trainer(train_config):
    """Stands in for a `Trainer`: the callbacks only read these."""
    return types.SimpleNamespace(step=0, last_step=10, config=train_config(log_steps=4))


@pytest.fixture
def writer(tmp_path):
    return tf.summary.create_file_writer(str(tmp_path))


def _events(writer, folder):
    """{tag: {step: value}} of what was written."""
    writer.close()
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}
        for tag in accumulator.Tags()["tensors"]
    }


def _throughput(monkeypatch, *times):
    clock = iter(times)
    monkeypatch.setattr(callbacks, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    return callbacks.Throughput(batch_size=8)


def test_throughput_counts_the_time_of_steps_alone(monkeypatch):
    # 100 s of tracing before the first step, 50 s of evaluation after the third.
    throughput = _throughput(monkeypatch, 100.0, 101.0, 103.0, 153.0, 154.0)
    for _ in range(3):
        throughput.on_step(None, None)
    throughput.on_epoch(None, 1)
    for _ in range(2):
        throughput.on_step(None, None)
    assert throughput.read() == pytest.approx(3 * 8 / 4.0)
    assert throughput.read() == 0


def test_scalars_are_written_every_log_steps_and_at_the_end(trainer, writer, tmp_path, capsys):
    log = callbacks.ScalarLog(writer, callbacks.Throughput(8))
    for trainer.step in range(1, 11):
        log.on_step(trainer, _report())
    events = _events(writer, tmp_path)
    train = {f"train/{name}" for name in ("nelbo", "loss", "reconstruction", "kl", "spectral", "batch_norm")}
    schedule = {f"schedule/{name}" for name in ("kl_weight", "regularization", "learning_rate")}
    groups = {f"{name}/{i:02d}" for name in ("kl_per_group", "kl_coefficients", "active_units") for i in range(2)}
    assert set(events) == train | schedule | groups | {"train/images_per_second", "active_units/total"}
    assert all(set(values) == {4, 8, 10} for values in events.values())
    values = {tag: float(values[4]) for tag, values in events.items()}
    assert values["train/nelbo"] == 2 + 3 and values["train/batch_norm"] == 5 and values["schedule/learning_rate"] == 8
    assert values["kl_per_group/00"] == 1.25 and values["kl_coefficients/01"] == 0.75
    # Above 0.01 nats a channel is active.
    assert [values[f"active_units/{name}"] for name in ("00", "01", "total")] == [2, 0, 2]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 4/10", "step 8/10", "step 10/10"]
    assert "nelbo 5.00" in lines[0] and "lr 8.00e+00" in lines[0]


def test_a_terminal_gets_a_bar_and_no_lines(trainer, writer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(callbacks.sys.stderr, "isatty", lambda: True, raising=False)
    log = callbacks.ScalarLog(writer, callbacks.Throughput(8))
    for trainer.step in range(7, 11):  # a run that goes on at step 6
        log.on_step(trainer, _report())
    captured = capsys.readouterr()
    assert captured.out == "" and "10/10" in captured.err and "nelbo 5.00" in captured.err
    assert set(_events(writer, tmp_path)["train/nelbo"]) == {8, 10}


def test_images_are_reconstructions_and_samples_at_four_temperatures(trainer, writer, tmp_path):
    def grid(value):
        return np.full((4, 6, 1), value, np.uint8)

    log = callbacks.ImageLog(writer, lambda: grid(255), lambda temperature: grid(int(100 * temperature)))
    trainer.step = 5
    log.on_epoch(trainer, 1)
    events = _events(writer, tmp_path)
    temperatures = (0.7, 0.8, 0.9, 1.0)
    assert set(events) == {"reconstructions"} | {f"samples/temperature_{t}" for t in temperatures}
    for tag, value in [("reconstructions", 255), *((f"samples/temperature_{t}", int(100 * t)) for t in temperatures)]:
        width, height, png = events[tag][5]
        assert (width, height) == (b"6", b"4")
        np.testing.assert_array_equal(tf.io.decode_png(png), grid(value))


def test_evaluation_is_written_under_the_name_of_its_images(trainer, writer, tmp_path, capsys):
    evaluation = callbacks.Evaluation(writer, lambda: {"nelbo": 81.5, "kl": 20.0}, "test")
    trainer.step = 5
    evaluation.on_epoch(trainer, 1)
    events = _events(writer, tmp_path)
    assert {tag: float(values[5]) for tag, values in events.items()} == {"test/nelbo": 81.5, "test/kl": 20.0}
    assert "epoch 1, step 5  test: nelbo 81.5  kl 20" in capsys.readouterr().out


@pytest.mark.parametrize("period, expected", [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
@pytest.mark.parametrize("kind", ["images", "evaluation", "checkpoints"])
def test_periods_count_epochs_and_the_end_always_counts(trainer, kind, period, expected):
    done = []

    def grid(*_):
        done.append(trainer.step // 2)
        return np.zeros((2, 2, 1), np.uint8)

    trainer.config.image_epochs = trainer.config.eval_epochs = trainer.config.checkpoint_epochs = period
    writer = tf.summary.create_noop_writer()
    callback = {
        "images": lambda: callbacks.ImageLog(writer, grid, lambda _: np.zeros((2, 2, 1), np.uint8)),
        "evaluation": lambda: callbacks.Evaluation(writer, lambda: dict(enumerate(grid()[:0])), "test"),
        "checkpoints": lambda: callbacks.Checkpoints(grid),
    }[kind]()
    for epoch in range(1, 6):
        trainer.step = 2 * epoch
        callback.on_epoch(trainer, epoch)
    assert done == expected


def test_checkpoints_are_saved_at_the_step(trainer):
    saved = []
    trainer.step = 7
    callbacks.Checkpoints(saved.append).on_epoch(trainer, 1)
    assert saved == [7]
