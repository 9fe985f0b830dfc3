"""Line and bar charts as SVG text, to be put inline into a page.

Colours are the page's: `STYLE` says how the parts look, by the CSS variables --ink, --muted, --grid, --series-0 and
--series-1 that the page defines, so that one drawing serves light and dark.
"""

import dataclasses
import html
import math

from nvae_tf.evaluation.report.axes import format_number, log_ticks, thin, ticks, upper_end

STYLE = """
svg.chart { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; overflow: visible; }
svg.chart text { fill: var(--muted); font-variant-numeric: tabular-nums; }
svg.chart .grid { stroke: var(--grid); stroke-width: 1; }
svg.chart .axis { stroke: var(--muted); stroke-width: 1; }
svg.chart .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
svg.chart .s0 { stroke: var(--series-0); }
svg.chart .s1 { stroke: var(--series-1); stroke-dasharray: 5 3; }
svg.chart .dot0, svg.chart .bar0 { fill: var(--series-0); }
svg.chart .dot1, svg.chart .bar1 { fill: var(--series-1); }
svg.chart .note { fill: var(--ink); }
"""

_WIDTH, _HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 24, 36
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_MAX_DOTS = 40


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line.

    Attributes:
        name: for the legend.
        points: list of (x, y), x increasing; where y is not finite the line has a gap.
        style: 0 for a full line, 1 for a dashed one of another colour. Default 0.
    """

    name: str
    points: list
    style: int = 0

    @property
    def finite(self):
        """The points whose y is a finite number."""
        return [(x, y) for x, y in self.points if math.isfinite(y)]


def _y_axis(values, logarithmic):
    """(ticks, function from a value to its height from the top of the plot)."""
    if logarithmic:
        marks = log_ticks(min(values), max(values))
        scale = math.log10
    else:
        marks = ticks(min(values), upper_end(values), 6)
        scale = float
    low, high = scale(marks[0]), scale(marks[-1])
    return marks, lambda value: _PLOT_HEIGHT * (1 - (scale(value) - low) / (high - low))


def _text(x, y, text, anchor, css=""):
    css = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{html.escape(text)}</text>'


def _rule(x1, y1, x2, y2, css):
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _frame(label, unit, y_marks, y_place):
    """The opening tag, the unit, and the y axis with its lines."""
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(label)}">',
        _text(0, 11, unit, "start"),
    ]
    for mark in y_marks:
        y = _TOP + y_place(mark)
        parts.append(_rule(_LEFT, y, _WIDTH - _RIGHT, y, "grid"))
        parts.append(_text(_LEFT - 6, y + 4, format_number(mark), "end"))
    parts.append(_rule(_LEFT, _TOP + _PLOT_HEIGHT, _WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT, "axis"))
    return parts


def _x_axis(low, high, label):
    """(parts, function from an x to its place from the left of the plot)."""
    low, high = (low, high) if high > low else (low - 1, high + 1)

    def place(x):
        return _PLOT_WIDTH * (x - low) / (high - low)

    parts, bottom = [_text(_WIDTH - _RIGHT, _HEIGHT - 3, label, "end")], _TOP + _PLOT_HEIGHT
    for mark in ticks(low, high, 7):
        if low <= mark <= high and mark == int(mark):
            x = _LEFT + place(mark)
            parts += [_rule(x, bottom, x, bottom + 4, "axis"), _text(x, bottom + 17, format_number(mark), "middle")]
    return parts, place


def _runs(points):
    """The points in stretches without a gap."""
    stretch = []
    for point in points:
        if math.isfinite(point[1]):
            stretch.append(point)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _curve(series, x_place, y_place):
    parts, style = [], series.style
    for stretch in _runs(thin(series.points)):
        places = [f"{x_place(x):.1f},{y_place(y):.1f}" for x, y in stretch]
        if len(places) > 1:
            parts.append(f'<polyline class="line s{style}" points="{" ".join(places)}"/>')
        if len(stretch) == 1 or len(series.points) <= _MAX_DOTS:
            dots = (place.split(",") for place in places)
            parts += [f'<circle class="dot{style}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in dots]
    return parts


def line_chart(series, label, unit="", x_label="step", logarithmic=False):
    """Draws lines over one axis.

    Where a few values are far above all others, the axis leaves them out and a note in the drawing says how high the
    highest is.

    Args:
        series: list of `Series`, at least one, each with a finite value.
        label: what the drawing shows, for those who do not see it.
        unit: of y. Default none.
        x_label: what x is. Default `"step"`.
        logarithmic: draw y by its logarithm, where all values are positive. Default False.

    Returns:
        The `<svg>` element.

    Raises:
        ValueError: no series, or one without a finite value.
    """
    if not series or not all(one.finite for one in series):
        raise ValueError(
            f"series: expected at least one, each with finite values. Received: {[s.name for s in series]}"
        )
    points = [point for one in series for point in one.finite]
    values, places = [y for _, y in points], [x for x, _ in points]
    logarithmic = logarithmic and min(values) > 0
    marks, y_place = _y_axis(values, logarithmic)
    unit = f"{unit} (log scale)".strip() if logarithmic else unit
    axis, x_place = _x_axis(min(places), max(places), x_label)
    parts = _frame(label, unit, marks, y_place) + axis
    # The inner drawing cuts off what is beyond the axis; the margin leaves room for lines and dots at its edge.
    size = f'width="{_PLOT_WIDTH + 6}" height="{_PLOT_HEIGHT + 6}"'
    view = f'viewBox="-3 -3 {_PLOT_WIDTH + 6} {_PLOT_HEIGHT + 6}"'
    parts.append(f'<svg x="{_LEFT - 3}" y="{_TOP - 3}" {size} {view}>')
    for one in series:
        parts += _curve(one, x_place, y_place)
    parts.append("</svg>")
    if max(values) > marks[-1]:
        parts.append(_text(_WIDTH - _RIGHT, 11, f"peak of {format_number(max(values))} not shown", "end"))
    return "".join([*parts, "</svg>"])


def bar_chart(values, label, unit="", notes=None, bands=None):
    """Draws bars side by side, numbered from 0, from zero upwards.

    Args:
        values: list of finite numbers, at least one; less than 0 counts as 0.
        label: what the drawing shows, for those who do not see it.
        unit: of the values. Default none.
        notes: a short text for each bar, drawn above it where there is room, and shown on hovering; or None. Default
            None.
        bands: list of (name, number of bars), neighbouring bars that belong together, named below; or None. Default
            None.

    Returns:
        The `<svg>` element.

    Raises:
        ValueError: no values, or as many notes or bars in bands as there are no values.
    """
    count = len(values)
    if not count or (notes and len(notes) != count) or (bands and sum(number for _, number in bands) != count):
        raise ValueError(f"values: expected some, and as many notes and bars in bands. Received: {values}")
    # A little more than the largest, so that its note has room.
    marks, y_place = _y_axis([0.0, 1.08 * max(*values, 0.0)], False)
    slot = _PLOT_WIDTH / count
    parts, every = _frame(label, unit, marks, y_place), math.ceil(count / 14)
    for index, value in enumerate(values):
        x, top = _LEFT + slot * index, y_place(max(value, 0.0))
        note = f", {notes[index]}" if notes else ""
        title = html.escape(f"{index}: {format_number(value)} {unit}{note}")
        box = f'x="{x + 0.12 * slot:.1f}" y="{_TOP + top:.1f}" width="{0.76 * slot:.1f}"'
        height = f'height="{_PLOT_HEIGHT - top:.1f}"'
        parts.append(f'<rect class="bar0" {box} {height} rx="1.5"><title>{title}</title></rect>')
        if notes and slot >= 8 * len(notes[index]):
            parts.append(_text(x + slot / 2, _TOP + top - 4, notes[index], "middle", "note"))
        if index % every == 0:
            parts.append(_text(x + slot / 2, _TOP + _PLOT_HEIGHT + 14, str(index), "middle"))
    first = 0
    for name, number in bands or []:
        left, right = _LEFT + slot * first + 2, _LEFT + slot * (first + number) - 2
        parts.append(_rule(left, _HEIGHT - 17, right, _HEIGHT - 17, "grid"))
        if slot * number >= 6 * len(name):
            parts.append(_text((left + right) / 2, _HEIGHT - 4, name, "middle"))
        first += number
    return "".join([*parts, "</svg>"])
