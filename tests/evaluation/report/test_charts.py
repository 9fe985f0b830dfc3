import math
import xml.etree.ElementTree as ElementTree

import pytest

from nvae_tf.evaluation.report.charts import Series, bar_chart, line_chart


def _parse(svg):
    return ElementTree.fromstring(svg)


def _points(root):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in root.iter("polyline")
    ]


def _texts(root):
    return [text.text for text in root.iter("text")]


def test_a_line_goes_where_the_axes_say():
    root = _parse(line_chart([Series("training", [(0, 0.0), (50, 5.0), (100, 10.0)])], "KL by step", "nats"))
    assert root.get("role") == "img" and root.get("aria-label") == "KL by step"
    assert {"nats", "step", "0", "2", "10", "40", "100"} <= set(_texts(root))
    (left, bottom), (middle_x, middle_y), (right, top) = _points(root)[0]
    assert bottom > top == 0.0 and middle_x == pytest.approx((left + right) / 2)
    assert middle_y == pytest.approx((bottom + top) / 2)


def test_logarithmic_axis_has_powers_of_ten_at_even_distances():
    points = [(0, 1.0), (1, 10.0), (2, 100.0)]
    root = _parse(line_chart([Series("a", points)], "label", "norm", logarithmic=True))
    assert {"norm (log scale)", "1", "10", "100"} <= set(_texts(root))
    heights = [y for _, y in _points(root)[0]]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    zero = _parse(line_chart([Series("a", [(0, 0.0), *points[1:]])], "label", logarithmic=True))
    assert "(log scale)" not in _texts(zero)


def test_lines_differ_by_their_class_and_have_gaps():
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 2.0), (5, math.inf), (6, 3.0)]
    root = _parse(line_chart([Series("a", points), Series("b", [(0, 1.0), (6, 2.0)], style=1)], "label"))
    assert [line.get("class") for line in root.iter("polyline")] == ["line s0", "line s0", "line s1"]
    assert [len(line) for line in _points(root)] == [2, 2, 2]
    assert "nan" not in ElementTree.tostring(root, "unicode")
    # A point alone between gaps is a dot.
    assert len([dot for dot in root.iter("circle") if dot.get("class") == "dot0"]) == 5


def test_outliers_are_cut_off_and_said():
    points = [(step, 5000.0 if step < 2 else 100.0 + step % 7) for step in range(200)]
    root = _parse(line_chart([Series("a", points)], "label"))
    assert "peak of 5,000 not shown" in _texts(root)
    assert max(y for _, y in _points(root)[0][10:]) > 30  # the rest has the height


def test_long_series_are_thinned_and_one_point_is_enough():
    svg = line_chart([Series("a", [(step, float(step)) for step in range(100_000)])], "label")
    assert len(svg) < 10_000
    assert list(_parse(line_chart([Series("a", [(7, 3.0)])], "label")).iter("circle"))


@pytest.mark.parametrize("series", [[], [Series("a", [])], [Series("a", [(0, math.nan)])]])
def test_nothing_to_draw_is_an_error(series):
    with pytest.raises(ValueError, match="series: expected at least one, each with finite values. Received: "):
        line_chart(series, "label")


def test_bars_have_the_heights_of_their_values_and_say_them():
    root = _parse(bar_chart([1.0, 2.0, -1.0], "KL", "nats", ["1/8", "<b>", "0/8"], [("4 × 4", 1), ("8 × 8", 2)]))
    heights = [float(bar.get("height")) for bar in root.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[2] == 0.0
    titles = [title.text for title in root.iter("title")]
    assert titles == ["0: 1 nats, 1/8", "1: 2 nats, <b>", "2: -1 nats, 0/8"]
    assert {"1/8", "<b>", "4 × 4", "8 × 8"} <= set(_texts(root))


def test_many_bars_have_few_numbers_below():
    root = _parse(bar_chart([1.0] * 60, "KL", "nats", ["20/20 active"] * 60))
    numbers = [text for text in _texts(root) if text.isdigit()]
    assert len(list(root.iter("rect"))) == 60 and len(numbers) < 20 and "20/20 active" not in _texts(root)


@pytest.mark.parametrize("values, options", [([], {}), ([1.0], {"notes": ["a", "b"]}), ([1.0], {"bands": [("a", 2)]})])
def test_bars_need_as_many_notes(values, options):
    with pytest.raises(ValueError, match="values: expected some, and as many notes and bars in bands"):
        bar_chart(values, "label", **options)
