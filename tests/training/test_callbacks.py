import types

import pytest
import tensorflow as tf

from nvae_tf.training import callbacks


def _report():
    """What `Trainer.advance` returns for two groups of three channels."""
    scalars = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")
    report = {name: tf.constant(float(i + 1)) for i, name in enumerate((*scalars, "gradient_norm", "loss_scale"))}
    report |= {"num_nonfinite": tf.constant(1), "num_skipped": tf.constant(1)}
    report["kl_per_group"] = tf.constant([1.25, 0.005])
    report["kl_coefficients"] = tf.constant([0.25, 0.75])
    report["kl_per_channel"] = tf.constant([[1.0, 0.25, 0.0], [0.005, 0.0, 0.0]])
    return report


@pytest.fixture
def trainer(train_config):
    """Stand-in for a `Trainer` with what the callbacks read."""
    return types.SimpleNamespace(
        step=0,
        last_step=10,
        steps_per_epoch=2,
        num_replicas=2,
        num_left_out=0,
        num_traces=0,
        model=types.SimpleNamespace(scalars=lambda: {"perplexity": 3.5}),
        config=train_config(log_steps=4),
    )


def test_images_per_second_count_only_the_time_of_steps(trainer, writer, events, monkeypatch):
    # 100 s of tracing before the first step, 50 s of evaluation after the third.
    clock = iter((100.0, 101.0, 103.0, 153.0, 154.0))
    monkeypatch.setattr(callbacks, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    log, trainer.last_step = callbacks.ScalarLog(writer), 5
    for trainer.step in range(1, 6):
        log.on_step(trainer, _report())
        if trainer.step == 3:
            log.on_epoch(trainer, 1)
    images, rates = 2 * trainer.config.batch_size, events()["train/images_per_second"]
    assert [float(rates[step]) for step in (4, 5)] == pytest.approx([2 * images / 3.0, images / 1.0])


@pytest.mark.parametrize("killed", [True, False])
def test_curves_do_not_double_back_when_a_run_resumes_or_recovers(trainer, writer, events, tmp_path, killed):
    log, trainer.config.log_steps = callbacks.ScalarLog(writer), 1
    log.on_start(trainer)
    for trainer.step in (1, 2, 3, 4):
        log.on_step(trainer, _report())
    trainer.step = 2
    if killed:
        writer.flush()
        resumed = tf.summary.create_file_writer(str(tmp_path), filename_suffix=".2")
        log = callbacks.ScalarLog(resumed)
        log.on_start(trainer)
    else:
        log.on_recovery(trainer, ArithmeticError())
    trainer.step = 3
    log.on_step(trainer, _report())
    if killed:
        resumed.close()
    assert set(events()["train/nelbo"]) == {1, 2, 3}


def test_scalars_are_written_every_log_steps_and_at_the_end(trainer, writer, events, capsys):
    log = callbacks.ScalarLog(writer)
    log.on_start(trainer)
    trainer.num_traces, trainer.trace_seconds, trainer.first_seconds = 1, 2.0, 5.5
    for trainer.step in range(1, 11):
        log.on_step(trainer, _report())
    events = events()
    terms = ("nelbo", "loss", "reconstruction", "kl", "spectral", "batch_norm", "gradient_norm", "skip_rate")
    train = {f"train/{name}" for name in terms}
    train |= {"train/images_per_second", "train/images_per_second_per_replica"}
    schedule = {f"schedule/{name}" for name in ("kl_weight", "regularization", "learning_rate", "loss_scale")}
    groups = {f"{name}/{i:02d}" for name in ("kl_per_group", "kl_coefficients", "active_units") for i in range(2)}
    assert set(events) == train | schedule | groups | {"active_units/total", "model/perplexity"}
    # Both skipped steps were among the first four.
    assert [float(events["train/skip_rate"][step]) for step in (4, 8, 10)] == [0.5, 0, 0]
    assert all(set(values) == {4, 8, 10} for values in events.values())
    values = {tag: float(values[4]) for tag, values in events.items()}
    assert values["train/nelbo"] == 2 + 3 and values["train/batch_norm"] == 5 and values["schedule/learning_rate"] == 8
    assert values["model/perplexity"] == 3.5
    assert values["kl_per_group/00"] == 1.25 and values["kl_coefficients/01"] == 0.75
    # A channel is active above 0.01 nats.
    assert [values[f"active_units/{name}"] for name in ("00", "01", "total")] == [2, 0, 2]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["step 4/10", "step 8/10", "step 10/10"]
    assert "tracing" in lines[0]
    assert lines[1] == "traced in 2.0 s, optimised and run for the first time in 3.5 s"
    assert "nelbo 5.00" in lines[2] and "lr 8.00e+00" in lines[2]
    assert "skipped 50%" in lines[2] and "skipped" not in lines[3]


# In the last case the run goes back to a checkpoint.
@pytest.mark.parametrize(
    "steps, expected",
    [((0, 1, 2, 3, 4, 5), [2, 4]), ((3, 4, 5), [3, 4]), ((4, 5, 6), []), ((1, 2, 3, 1, 2, 3, 4), [2, 4])],
)
def test_profile_covers_the_requested_steps_that_are_still_to_come(trainer, monkeypatch, steps, expected, capsys):
    noted = []
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: noted.append(trainer.step))
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: noted.append(trainer.step))
    profile = callbacks.Profile("logs", 2, 4)
    trainer.step, *rest = steps
    profile.on_start(trainer)
    for trainer.step in rest:
        profile.on_step(trainer, None)
    profile.on_stop(trainer)
    assert noted == expected
    assert ("no profile" in capsys.readouterr().out) == (not expected)
