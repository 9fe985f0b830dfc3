import math

import pytest

from nvae_tf.evaluation.report.axes import format_number, log_ticks, thin, ticks, upper_end


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.3, "0.3"),
        (92.38848, "92.39"),
        (-7.25, "-7.25"),
        (1234567.8, "1,234,568"),
        (0.0001, "1e-4"),
        (-0.00025, "-2.5e-4"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 10, [0, 5, 10]),
        (0, 100, [0, 50, 100]),
        (83, 112, [80, 90, 100, 110, 120]),
        (0.57, 0.66, [0.55, 0.6, 0.65, 0.7]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (0, 0, [-1, 0, 1]),
    ],
)
def test_ticks_are_round_and_enclose_the_range(low, high, expected):
    assert ticks(low, high, 4) == pytest.approx(expected, abs=1e-12)
    assert [format_number(one) for one in ticks(low, high, 4)] == [format_number(one) for one in expected]


@pytest.mark.parametrize("low, high", [(1e-9, 3e-9), (5, 5), (-1e12, 1e12), (1e-30, 1), (0.1, 0.30000000000000004)])
def test_ticks_enclose_any_range_and_are_few(low, high):
    received = ticks(low, high)
    rounding = 1e-9 * (received[-1] - received[0])
    assert received[0] <= low + rounding and received[-1] >= high - rounding
    assert 2 <= len(received) <= 9 and received == sorted(set(received))


@pytest.mark.parametrize(
    "low, high, expected", [(2, 3, [1, 10]), (1, 1, [1, 10]), (0.5, 2e3, [0.1, 1, 10, 100, 1e3, 1e4])]
)
def test_log_ticks_are_powers_of_ten(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)


def test_log_ticks_of_many_powers_are_few_and_enclose_them():
    received = log_ticks(1e-12, 3e11)
    assert received[0] <= 1e-12 and received[-1] >= 3e11 and len(received) <= 7


def test_thinning_keeps_every_spike():
    points = [(step, 1.0) for step in range(10_000)]
    points[4321], points[7000] = (4321, 99.0), (7000, -5.0)
    points[50] = (50, math.nan)
    kept = thin(points, 100)
    assert len(kept) <= 100 and {(4321, 99.0), (7000, -5.0)} <= set(kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert thin(points[:100], 100) is not kept and thin(points[:100], 100) == points[:100]


def test_axis_leaves_out_a_few_far_outliers_of_many_values_only():
    assert upper_end([1.0] * 50 + [2.0] * 50 + [1000.0]) < 10
    assert upper_end([1.0, 2.0, 1000.0]) == 1000.0
    assert upper_end([float(value) for value in range(100)]) == 99.0
