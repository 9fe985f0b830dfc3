"""Numbers for axes: round ticks, short texts, and what of a long series is worth drawing."""

import math


def format_number(value):
    """A number as short as it can be read: thousands apart, four digits, powers of ten for what is very small."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def ticks(low, high, count=5):
    """Round numbers, about `count` of them, from at most `low` to at least `high`: steps of 1, 2 or 5 by a power of 10.

    Args:
        low, high: finite numbers, low <= high.
        count: about how many. Default 5.

    Returns:
        Increasing list of at least two numbers.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        spread = abs(low) / 2 or 1.0
        low, high = low - spread, high + spread
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # By division where the step is below 1, so that 3 * 0.1 is 0.3.
    return [number * step if step >= 1 else number / round(1 / step, 9) for number in range(first, last + 1)]


def log_ticks(low, high, count=5):
    """Powers of ten, at most about `count`, from at most `low` to at least `high`, both positive; at least two."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / count))
    last += -(last - first) % step
    return [10.0**power for power in range(first, last + 1, step)]


def thin(points, limit=300):
    """At most about `limit` points: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= limit:
        return points
    buckets, result = limit // 2, []
    for bucket in range(buckets):
        part = points[bucket * len(points) // buckets : (bucket + 1) * len(points) // buckets]
        finite = [point for point in part if math.isfinite(point[1])] or part[:1]
        ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
        result += sorted(ends)
    return result


def upper_end(values):
    """Where the axis should end: the largest value, or less where a few far outliers of many would flatten the rest."""
    if len(values) < 20:
        return max(values)
    ordered = sorted(values)
    low, most, high = ordered[0], ordered[int(0.97 * (len(ordered) - 1))], ordered[-1]
    limit = most + 0.6 * (most - low)
    return high if high <= limit or most == low else limit
