"""Checks of concurrent requests: the same answers in any batch, good requests beside bad ones, and latencies."""

import concurrent.futures
import functools
import time

import numpy as np

from nvae_tf.serving.check.conformance import Check, CheckFailedError, expect_same
from nvae_tf.serving.protocol import ServerError

_SEEDS = 24
_MIXED_REQUESTS = 32
_MAX_ROWS = 4
_THREADS = 8
_TRIES = 6  # of a request, each of which may share its batch with a bad one


def concurrency_checks(target):
    """Yields the `Check`s of answers to concurrent requests."""
    for protocol in target.transports:
        yield Check(f"{protocol}: one seed, one image, in any batch", functools.partial(_one_image, target, protocol))
        yield Check(f"{protocol}: good requests beside bad ones", functools.partial(_beside_bad, target, protocol))


def _one_image(target, protocol):
    rng = np.random.default_rng(0)
    seeds = rng.integers(-(2**63), 2**63 - 1, _SEEDS, endpoint=True)
    temperatures = rng.uniform(0.5, 1.0, _SEEDS).astype(np.float32)

    def sample(rows):
        inputs = {"seed": seeds[rows], "temperature": temperatures[rows]}
        return target.predict(protocol, "sample", inputs)["image"]

    alone = np.concatenate([sample(np.array([row])) for row in range(_SEEDS)])
    if len({image.tobytes() for image in alone}) == 1:
        raise CheckFailedError(f"expected a different image for every seed. Received: one for all {_SEEDS}")
    most = min(_MAX_ROWS, target.card.max_rows) if target.card else _MAX_ROWS
    groups = [rng.permutation(_SEEDS)[: rng.integers(1, most, endpoint=True)] for _ in range(_MIXED_REQUESTS)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        mixed = np.concatenate(list(pool.map(sample, groups)))
    expect_same({"image": alone[np.concatenate(groups)]}, {"image": mixed}, target.max_levels)
    return f"{len(mixed)} rows of {_SEEDS} seeds in {_MIXED_REQUESTS} requests, {_THREADS} at once"


def _beside_bad(target, protocol):
    right, expected = target.examples["sample"], target.sample(protocol)
    wrong = {**right, "temperature": -right["temperature"]}
    refused = []

    def bad():
        try:
            target.predict(protocol, "sample", wrong)
        except ServerError:
            return
        raise CheckFailedError("expected a refusal of a bad request. Received: an answer")

    def good():
        for attempt in range(_TRIES):
            try:
                answer = target.sample(protocol)
            except ServerError as error:
                # A batch fails as a whole, for every client with rows in it; each may send its rows again.
                merged = error.code == "INVALID_ARGUMENT" and "temperature" in error.message
                if not merged or attempt == _TRIES - 1:
                    raise
                refused.append(error)
            else:
                return expect_same(expected, answer, target.max_levels)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        # The bad ones are so few that in one of its tries a good one will share a batch with none of them.
        jobs = [good, bad, good, good, good, good] * (_MIXED_REQUESTS // 5)
        futures = [pool.submit(job) for job in jobs]
        for future in futures:
            future.result()
    return f"{jobs.count(good)} correct answers, after {len(refused)} refusals of batches shared with a bad row"


def load_checks(target, concurrencies, seconds, rows, figures):
    """Yields the `Check`s of a server under load, which append their measurements, dicts, to the list `figures`.

    Each of `concurrency` clients sends a request of some rows as soon as its last one is answered, for some seconds;
    requests still under way then are waited for and counted. Requests and images are the sum over all clients.
    """
    for protocol in target.transports:
        for concurrency in concurrencies:
            run = functools.partial(_load, target, protocol, concurrency, seconds, rows, figures)
            yield Check(f"{protocol}: load, {concurrency} at once", run)


def _load(target, protocol, concurrency, seconds, rows, figures):
    latencies, failed = [], []

    def client(number):
        rng = np.random.default_rng(number)
        while (before := time.perf_counter()) < end:
            inputs = {"seed": rng.integers(2**62, size=rows), "temperature": np.full(rows, 0.7, np.float32)}
            try:
                target.predict(protocol, "sample", inputs)
                latencies.append(time.perf_counter() - before)
            except ServerError:
                failed.append(number)

    target.sample(protocol)  # connects, and takes the time that only first requests take
    start = time.perf_counter()
    end = start + seconds
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(client, range(concurrency)))
    elapsed = time.perf_counter() - start
    if not latencies:
        raise CheckFailedError(f"expected answers. Received: {len(failed)} errors")
    p50, p90, p99 = map(float, np.percentile(latencies, [50, 90, 99]) * 1e3)
    rate = len(latencies) * rows / elapsed
    load = {"protocol": protocol, "concurrency": concurrency, "rows": rows}
    counts = {"requests": len(latencies), "failed": len(failed), "seconds": elapsed}
    figures.append(load | counts | {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "images_per_second": rate})
    times = f"ms p50 {p50:.0f}, p90 {p90:.0f}, p99 {p99:.0f}"
    summary = f"{rate:.1f} images/s; {times}; {len(latencies)} requests"
    if failed:
        raise CheckFailedError(f"{len(failed)} requests failed; {summary}")
    return summary
