"""The pieces of an HTML page that needs nothing but itself: no script, no request, pictures inline."""

import base64
import html
import io

from nvae_tf.evaluation.report import charts

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1c1d1f; --muted: #62666d; --grid: #e4e5e7;
  --series-0: #2563b8; --series-1: #b4530f; --accent: #2563b8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131416; --card: #1b1d20; --ink: #e8e9eb; --muted: #9a9fa7; --grid: #303338;
    --series-0: #6ea8f0; --series-1: #f0a35e; --accent: #8ab8f4;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 0 0 .75rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.quiet, figcaption { color: var(--muted); font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: 1rem 0 0; list-style: none; }
nav a { text-decoration: none; padding: .2rem 0; display: inline-block; }
nav a:hover { text-decoration: underline; }
section { border-top: 1px solid var(--grid); margin-top: 2.2rem; padding-top: 1.6rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19.5rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: .6rem; padding: 1rem; margin: 0;
  min-width: 0; }
.cards.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
figure.card img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: .25rem; }
figure.smooth img { image-rendering: auto; }
figcaption { margin-top: .6rem; }
dl.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 0; }
dl.figures div { background: var(--card); border: 1px solid var(--grid); border-radius: .6rem; padding: .7rem .9rem; }
dl.figures dt { color: var(--muted); font-size: .82rem; }
dl.figures dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
dl.figures small { font-size: .78rem; font-weight: 400; color: var(--muted); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
code span { display: inline-block; max-width: 100%; }
figure.card.heat img { height: 12rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--muted); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .32rem .8rem .32rem 0; text-align: left; border-bottom: 1px solid var(--grid);
  vertical-align: baseline; }
th { font-weight: 500; }
thead th { color: var(--muted); font-size: .82rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); font-size: .9rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0 0 .4rem; font-size: .82rem; color: var(--muted); }
.legend span::before { content: ""; display: inline-block; width: 1.3em; margin-right: .4em; vertical-align: middle;
  border-top: 2px solid var(--series-0); }
.legend .s1::before { border-top: 2px dashed var(--series-1); }
footer { color: var(--muted); font-size: .9rem; padding-bottom: 3rem; }
@media (max-width: 30rem) {
  header, main, footer { padding-left: .9rem; padding-right: .9rem; }
  header { padding-top: 1.5rem; }
  h1 { font-size: 1.5rem; }
  .card { padding: .75rem; }
}
@media print { nav { display: none; } .card, section { break-inside: avoid; } }
"""

# With it a browser makes no request at all, whatever is in the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def escape(text):
    """Text as it stands in HTML, in an attribute too."""
    return html.escape(str(text))


def number(value, digits=2):
    """A number with thousands apart and so many decimals; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def plain(value):
    """A setting as text; a list of equal values as one of them."""
    if isinstance(value, list):
        distinct = list(dict.fromkeys(map(plain, value)))
        return distinct[0] if len(distinct) == 1 else ", ".join(map(plain, value))
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def picture(image, alt):
    """`<img>` of a uint8 image [H, W, 1 or 3], with its PNG inside."""
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = image.shape[:2]
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


def figure(content, caption="", title="", css=""):
    """A card with a heading, a picture or drawing (HTML), and a caption."""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{f"card {css}".strip()}">{heading}{content}{below}</figure>'


def cards(figures, css=""):
    """Figures side by side where there is room."""
    return f'<div class="{f"cards {css}".strip()}">{"".join(figures)}</div>'


def table(header, rows, caption=""):
    """A table.

    Args:
        header: names of the columns; one that begins with `>` is of numbers and set to the right.
        rows: lists of texts, as many as there are columns; the first names the row.
        caption: what the table shows. Default none.
    """
    right = [name.startswith(">") for name in header]
    css = [' class="number"' if numeric else "" for numeric in right]
    head = "".join(
        f'<th scope="col"{style}>{escape(name.lstrip(">"))}</th>' for name, style in zip(header, css, strict=True)
    )
    body = []
    for first, *others in rows:
        cells = "".join(f"<td{style}>{escape(cell)}</td>" for cell, style in zip(others, css[1:], strict=True))
        body.append(f'<tr><th scope="row"{css[0]}>{escape(first)}</th>{cells}</tr>')
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    content = f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    # What scrolls must be reachable by the keyboard.
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption or header[0])}">{content}</div>'


def details(summary, content):
    """Content (HTML) that is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def paragraph(text, css=""):
    """A paragraph of plain text."""
    return f"<p{f' class={css}' if css else ''}>{escape(text)}</p>"


def missing(text, command):
    """The quiet line of a section that has nothing to show: why, and the command that would fill it."""
    # Each argument in one piece, for a line may otherwise break after any hyphen.
    words = " ".join(f"<span>{escape(word)}</span>" for word in command.split(" "))
    return f'<p class="quiet">{escape(text)} <code>{words}</code></p>'


def legend(series):
    """Names of the lines of a chart (list of `charts.Series`), with a piece of each line."""
    names = (f'<span class="s{one.style}">{escape(one.name)}</span>' for one in series)
    return f'<div class="legend">{"".join(names)}</div>'


def key_figures(figures):
    """The most important figures, large: (name, value, unit) each."""
    items = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(unit)}</small></dd></div>"
        for name, value, unit in figures
    )
    return f'<dl class="figures">{"".join(items)}</dl>'


def page(title, subtitle, top, sections, bottom):
    """The whole page.

    Args:
        title, subtitle: plain text.
        top: HTML below them.
        sections: list of (name for the link, heading, HTML).
        bottom: HTML of the footer.

    Returns:
        The text of the file.
    """
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections)
    bodies = "".join(
        f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{escape(heading)}</h2>'
        f"{content}</section>\n"
        for name, heading, content in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}{charts.STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="quiet">{escape(subtitle)}</p>
{top}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{bodies}</main>
<footer>{bottom}</footer>
</body>
</html>
"""
