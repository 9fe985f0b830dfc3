"""Two workers on one machine, each in a separate process."""

import random
import signal
import socket
import time

import pytest

from nvae_tf.checkpoint import RunFolder

STEPS = 40
FIELDS = {
    "model__num_flows": 0,
    "train__batch_size": 64,
    "train__epochs": 6,
    "train__max_steps": STEPS,
    "train__checkpoint_steps": 3,
    "train__eval_images": 8,
}

pytestmark = pytest.mark.slow


def _worker_flags():
    """--workers with two free ports, and --worker_index, for each of two workers."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("localhost", 0))
        addresses = ",".join(f"localhost:{probe.getsockname()[1]}" for probe in (one, other))
    return [(f"--workers={addresses}", f"--worker_index={index}") for index in range(2)]


@pytest.fixture
def start_workers(tiny_run):
    """Function that starts both workers of the tiny run; those still running at the end are killed."""
    started = []

    def start(run_dir, **overrides):
        for flags in _worker_flags():
            started.append(tiny_run.start(run_dir, *flags, **FIELDS | overrides))
        return started[-2:]

    yield start
    for process in started:
        process.kill()


def _finish(workers):
    """Outputs of both, which must succeed."""
    texts = [worker.read() for worker in workers]
    assert [worker.wait() for worker in workers] == [0, 0], texts
    return texts


@pytest.fixture(scope="module")
def mirrored(tiny_run, tmp_path_factory):
    """Folder of the same run in one process with two devices. No test may change it."""
    run_dir = tmp_path_factory.mktemp("mirrored") / "run"
    status, text = tiny_run(run_dir, "--strategy=mirrored", "--logical_cpus=2", **FIELDS)
    assert status == 0 and "2 replicas" in text, text
    return run_dir


def test_two_workers_equal_two_devices_of_one_process_bit_for_bit(mirrored, tiny_run, start_workers, tmp_path):
    run_dir = tmp_path / "run"
    chief, other = _finish(start_workers(run_dir))
    tiny_run.assert_same_checkpoint(mirrored, run_dir, STEPS)
    metrics = [(folder / "metrics.jsonl").read_text() for folder in (mirrored, run_dir)]
    assert metrics[0] == metrics[1] and metrics[0].count("\n") == 1
    # Only the chief writes.
    assert f"step {STEPS}/{STEPS}  loss" in chief and "step 1/" not in other and "this is worker 1 of 2" in other
    assert len(list((run_dir / "tensorboard").glob("events*"))) == 1
    assert RunFolder(run_dir).config.train.num_replicas == 2


def test_workers_killed_at_random_moments_end_with_the_uninterrupted_bits(mirrored, tiny_run, start_workers, tmp_path):
    run_dir, moments = tmp_path / "run", random.Random(1)
    last = 0
    for _ in range(2):
        workers = start_workers(run_dir)
        target = f"step {last + moments.randint(4, 8)}/{STEPS} "
        workers[0].read_to(target)
        time.sleep(moments.uniform(0.0, 0.2))
        for worker in workers:
            worker.kill()
        last = max(RunFolder(run_dir).steps(), default=0)
    assert 3 <= last < STEPS
    _finish(start_workers(run_dir))
    tiny_run.assert_same_checkpoint(mirrored, run_dir, STEPS)


def test_signal_to_one_worker_stops_both_after_the_same_step(tiny_run, start_workers, tmp_path):
    run_dir = tmp_path / "run"
    workers = start_workers(run_dir, train__max_steps=60, train__checkpoint_steps=0)
    workers[0].read_to("step 3/")
    workers[1].send_signal(signal.SIGTERM)
    texts = [worker.read() for worker in workers]
    assert [worker.wait() for worker in workers] == [75, 75], texts
    (step,) = RunFolder(run_dir).steps()
    assert 3 < step < 60
    assert all(f"stopped: {run_dir}, step {step};" in text for text in texts)


def test_workers_with_different_configurations_are_refused(tiny_run, tmp_path):
    pairs = zip(_worker_flags(), (0.01, 0.02), strict=True)
    workers = [tiny_run.start(tmp_path / "run", *flags, **FIELDS, train__learning_rate=rate) for flags, rate in pairs]
    texts = [worker.read() for worker in workers]
    assert [worker.wait() for worker in workers] == [1, 1]
    assert all("Received: another than worker 0's on worker 1" in text for text in texts)
    assert not (tmp_path / "run").exists()


def test_worker_that_dies_ends_the_other_with_a_message(tiny_run, start_workers, tmp_path):
    chief, other = start_workers(tmp_path / "run")
    chief.read_to("step 3/")
    other.kill()
    text = chief.read()
    assert chief.wait() not in (0, 75)
    message = text[text.index("another worker is gone, or the network to it: ") :].splitlines()[0]
    assert "Traceback" not in text and 'File "' not in message and "Detected" not in message
