"""Line and bar charts as inline SVG, drawn by matplotlib, that take the colours of the page around them."""

import dataclasses
import io
import math
import re

import markupsafe
import matplotlib
from matplotlib.figure import Figure  # without pyplot, which keeps figures and looks for a display
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Colours that stand for the page's CSS variables, which replace them in the SVG: one drawing serves light and dark.
_SERIES, _MUTED, _GRID, _INK = ("#000011", "#000012"), "#000013", "#000014", "#000015"
_VARIABLES = {_SERIES[0]: "series-0", _SERIES[1]: "series-1", _MUTED: "muted", _GRID: "grid", _INK: "ink"}
_WIDTH, _HEIGHT = 400, 210  # points
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 24, 36
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_MAX_DOTS = 40
_STYLE = {
    "axes.autolimit_mode": "round_numbers",
    "axes.axisbelow": True,
    "axes.edgecolor": _MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.0,
    "axes.ymargin": 0.0,
    "figure.dpi": 72,
    "font.size": 12,
    "grid.color": _GRID,
    "grid.linewidth": 1.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "path.simplify_threshold": 1.0,
    "svg.fonttype": "none",
    "text.color": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "ytick.left": False,
    "ytick.minor.left": False,
}


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line.

    Attributes:
        name: for the legend.
        points: list of (x, y) by increasing x; the line has a gap where y is not finite.
        style: 0 for a solid line, 1 for a dashed one in another colour. Default 0.
    """

    name: str
    points: list
    style: int = 0

    @property
    def finite(self):
        """The points whose y is finite."""
        return [(x, y) for x, y in self.points if math.isfinite(y)]


def format_number(value):
    """Formats a number with four digits, separated thousands, and powers of ten if it is very small."""
    if value == 0 or 1000 <= abs(value) < math.inf:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def _axes(unit):
    axes = Figure((_WIDTH / 72, _HEIGHT / 72)).add_axes(
        (_LEFT / _WIDTH, _BOTTOM / _HEIGHT, _PLOT_WIDTH / _WIDTH, _PLOT_HEIGHT / _HEIGHT)
    )
    axes.figure.text(0, 1 - 11 / _HEIGHT, unit)
    return axes


def _finish(axes, label):
    """The `<svg>` element, safe to put into HTML, with `label` for screen readers."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label}):  # the same ids at every run, others in every chart
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        axes.figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = re.sub(r"<style.*?</style>", "", file.getvalue().partition("<svg")[2].partition(">")[2], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # names such as axes_1, which every chart has
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    opening = markupsafe.Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return opening.format(_WIDTH, _HEIGHT, label) + markupsafe.Markup(svg)


def _upper_end(values):
    """Where the axis ends: the largest value, or less if a few outliers would flatten the rest."""
    ordered = sorted(values)
    low, most, high = ordered[0], ordered[int(0.97 * (len(ordered) - 1))], ordered[-1]
    limit = most + 0.6 * (most - low)
    return high if len(values) < 20 or high <= limit or most == low else limit


def line_chart(series, label, unit="", logarithmic=False):
    """An `<svg>` element with lines over the training step, as `markupsafe.Markup`.

    If a few values are far above all others, the axis leaves them out and a note gives the highest. It is
    logarithmic only if all values are positive. `label` says what the chart shows, for screen readers.
    """
    values = [y for one in series for _, y in one.finite]
    logarithmic = logarithmic and min(values) > 0
    with matplotlib.rc_context(_STYLE):
        axes = _axes(f"{unit} (log scale)".strip() if logarithmic else unit)
        for one in series:
            dots = "o" if len(one.finite) <= _MAX_DOTS else None
            line = (0, (5 / 1.8, 3 / 1.8)) if one.style else "-"
            x, y = zip(*one.points, strict=True)
            axes.plot(x, y, color=_SERIES[one.style], linestyle=line, marker=dots, clip_on=False)
        if logarithmic:
            axes.set_yscale("log")
            axes.minorticks_off()
        else:
            locator = MaxNLocator(5, steps=[1, 2, 5, 10])
            axes.yaxis.set_major_locator(locator)
            low, high = min(values), _upper_end(values)
            spread = (abs(low) / 2 or 1.0) if low == high else 0.0
            axes.set_ylim(*locator.view_limits(low - spread, high + spread))
            if max(values) > axes.get_ylim()[1]:
                for line in axes.lines:
                    line.set_clip_on(True)
                note = f"peak of {format_number(max(values))} not shown"
                axes.figure.text(1 - _RIGHT / _WIDTH, 1 - 11 / _HEIGHT, note, ha="right")
        steps = [x for one in series for x, _ in one.finite]
        axes.set_xlim(min(steps), max(steps) if max(steps) > min(steps) else min(steps) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        axes.figure.text(1 - _RIGHT / _WIDTH, 3 / _HEIGHT, "step", ha="right")
        return _finish(axes, label)


def bar_chart(values, label, unit, bands, notes=None):
    """An `<svg>` element with bars that are numbered from 0, as `markupsafe.Markup`.

    `bands` is a list of (name, number of bars), for neighbouring bars that belong together; `notes` are short texts for
    each bar, drawn above it where there is room.
    """
    count = len(values)
    with matplotlib.rc_context(_STYLE):
        axes = _axes(unit)
        bars = axes.bar(range(count), values, width=0.76, color=_SERIES[0])
        locator = MaxNLocator(5, steps=[1, 2, 5, 10])
        axes.yaxis.set_major_locator(locator)
        axes.set_xlim(-0.5, count - 0.5)
        # Slightly above the largest bar, which leaves room for its note.
        axes.set_ylim(0, locator.view_limits(0, 1.08 * max([*values, 1e-9]))[1])
        axes.tick_params(axis="x", bottom=False, pad=3)
        axes.set_xticks(range(0, count, math.ceil(count / 14)))
        slot = _PLOT_WIDTH / count
        if notes and slot >= 8 * max(map(len, notes)):
            axes.bar_label(bars, notes, padding=3, color=_INK)
        first = -0.5
        for name, number in bands:
            place, ends = axes.get_xaxis_transform(), (first + 0.05, first + number - 0.05)
            axes.plot(ends, [-19 / _PLOT_HEIGHT] * 2, "-", color=_GRID, linewidth=1, transform=place, clip_on=False)
            if slot * number >= 6 * len(name):
                axes.text(first + number / 2, -32 / _PLOT_HEIGHT, name, ha="center", transform=place)
            first += number
        return _finish(axes, label)
