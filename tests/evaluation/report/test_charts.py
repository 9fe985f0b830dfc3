import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from nvae_tf.evaluation.report.charts import Series, bar_chart, format_number, line_chart


def _texts(svg):
    root = ElementTree.fromstring(svg.replace("xlink:", ""))
    return [text.text for text in root.iter("text")]


def _line(svg, variable="series-0"):
    """Points of the first line in the colour of a CSS variable."""
    path = re.search(rf'<path d="([^"]*)"[^>]*style="fill: none; [^"]*stroke: var\(--{variable}\)', svg)[1]
    return [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.3, "0.3"),
        (92.38848, "92.39"),
        (1234567.8, "1,234,568"),
        (0.0001, "1e-4"),
        (-0.00025, "-2.5e-4"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text


def test_a_line_follows_its_axes():
    svg = line_chart([Series("training", [(0, 0.0), (50, 5.0), (100, 10.0)])], "KL <b> by step", "nats")
    assert 'role="img" aria-label="KL &lt;b&gt; by step"' in svg
    assert {"nats", "step", "0", "2", "10", "40", "100"} <= set(_texts(svg))
    (left, bottom), (middle_x, middle_y), (right, top) = _line(svg)
    assert middle_x == pytest.approx((left + right) / 2) and middle_y == pytest.approx((bottom + top) / 2)
    assert bottom > top


def test_a_chart_takes_the_colours_of_the_page_and_needs_nothing_else():
    series = [Series("a", [(0, 1.0), (1, 2.0)]), Series("b", [(0, 2.0), (1, 1.0)], style=1)]
    svg = line_chart(series, "label")
    assert svg == line_chart(series, "label")  # the same bytes every time
    assert not re.search(r"#[0-9a-f]{6}\b|https?:|<style|<script|DejaVu", svg)
    assert "stroke-dasharray" in svg and _line(svg) != _line(svg, "series-1")


def test_a_logarithmic_axis_is_for_positive_values():
    points = [(0, 1.0), (1, 10.0), (2, 100.0)]
    svg = line_chart([Series("a", points)], "label", "norm", logarithmic=True)
    assert {"norm (log scale)", "1", "10", "100"} <= set(_texts(svg))
    heights = [y for _, y in _line(svg)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert "(log scale)" not in _texts(line_chart([Series("a", [(0, 0.0), *points[1:]])], "label", logarithmic=True))


def test_outliers_are_cut_off_with_a_note():
    points = [(step, 5000.0 if step < 2 else 100.0 + step % 7) for step in range(200)]
    texts = _texts(line_chart([Series("a", points)], "label"))
    assert {"peak of 5,000 not shown", "104"} <= set(texts) and "1,000" not in texts
    assert "not shown" not in line_chart([Series("a", [(0, 1.0), (1, 2.0), (2, 1000.0)])], "label")


@pytest.mark.parametrize("values", [[3.0], [1.0, math.nan, math.inf, 0.0], [0.0, 0.0]])
def test_few_values_gaps_and_constants_can_be_drawn(values):
    svg = line_chart([Series("a", list(enumerate(values)))], "label")
    assert "nan" not in svg and "inf" not in svg.replace("infinity", "") and svg.count("<use") >= 1


def test_long_series_stay_small():
    points = [(step, math.sin(step)) for step in range(100_000)]
    assert len(line_chart([Series("a", points)], "label")) < 100_000


def test_bars_have_notes_and_bands():
    svg = bar_chart([1.0, 2.0, 0.0], "KL", "nats", [("4 × 4", 1), ("8 × 8", 2)], ["1/8", "<b>", "0/8"])
    assert {"nats", "0", "1", "2", "1/8", "<b>", "0/8", "4 × 4", "8 × 8"} <= set(_texts(svg))
    bars = re.findall(r'd="([^"]*)"[^>]*style="fill: var\(--series-0\)', svg)
    heights = [max(y) - min(y) for y in ([float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", bar)] for bar in bars)]
    assert len(bars) == 3 and heights[1] == pytest.approx(2 * heights[0]) and heights[2] == 0
    texts = _texts(bar_chart([1.0] * 60, "KL", "nats", [("8 × 8", 60)], ["20/20 active"] * 60))
    assert len(texts) < 30 and "20/20 active" not in texts  # where there is no room
