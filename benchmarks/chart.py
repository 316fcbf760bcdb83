"""Charts as SVG: lines over two logarithmic axes, and bars over one. They follow the reader's light or dark scheme.

Written here, since a drawing library would be the largest thing that the benchmarks install, for lines and rectangles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

WIDTH = 960
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a2a")
"""Apart also for people who see fewer colours (Okabe and Ito; the last one is darker than theirs)."""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-size: 16px; font-weight: 600 }
.faint { fill: #57606a } .grid { stroke: #d0d7de; stroke-width: 1 } .axis { stroke: #57606a; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .grid { stroke: #3d444d } .axis { stroke: #9198a1 }
}
"""


@dataclass(frozen=True)
class Line:
    """A row of points, all above 0, and what is said of it: its name and a remark below that."""

    name: str
    points: Sequence[tuple[float, float]]
    remark: str = ""


@dataclass(frozen=True)
class Bar:
    """A value above 0, drawn from 1 on, and the text behind it. Bars of a name stand together."""

    name: str
    series: str
    value: float
    text: str


@dataclass(frozen=True)
class _Scale:
    """Where a value lies on a logarithmic axis."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def decades(self) -> Iterator[float]:
        yield from (10.0**exponent for exponent in range(_exponent(self.low), _exponent(self.high) + 1))


def lines(title: str, across: str, up: str, drawn: Sequence[Line]) -> str:
    """A chart of lines; `across` and `up` say what the axes are."""
    left, right, top, height = 76, WIDTH - 330, 58, 360 + 12 * max(0, len(drawn) - 6)
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    x_axis, y_axis = _around(xs, left, right), _around(ys, top + height, top)
    svg = _begin(title, top + height + 56)
    for value in y_axis.decades():
        _line(svg, "grid", left, y_axis.at(value), right, y_axis.at(value))
        _text(svg, _short(value), left - 8, y_axis.at(value) + 4, anchor="end", kind="faint")
    for value in x_axis.decades():
        _line(svg, "grid", x_axis.at(value), top, x_axis.at(value), top + height)
        _text(svg, _short(value), x_axis.at(value), top + height + 18, anchor="middle", kind="faint")
    _line(svg, "axis", left, top + height, right, top + height)
    _text(svg, across, (left + right) / 2, top + height + 42, anchor="middle")
    _text(svg, up, left, top - 10)
    for number, line in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
        path = " ".join(f"{x:g},{y:g}" for x, y in places)
        SubElement(svg, "polyline", points=path, fill="none", stroke=colour, attrib={"stroke-width": "2"})
        for x, y in places:
            SubElement(svg, "circle", cx=f"{x:g}", cy=f"{y:g}", r="3.5", fill=colour)
        beside = top + 8 + 50 * number
        SubElement(svg, "circle", cx=f"{right + 24}", cy=f"{beside}", r="5", fill=colour)
        _text(svg, line.name, right + 36, beside + 4)
        _text(svg, line.remark, right + 36, beside + 21, kind="faint")
    return _end(svg)


def bars(title: str, across: str, drawn: Sequence[Bar]) -> str:
    """A chart of bars over a logarithmic axis that begin at 1, to the right for what is above it."""
    names = list(dict.fromkeys(bar.name for bar in drawn))
    series = list(dict.fromkeys(bar.series for bar in drawn))
    left, right, top, each = 330, WIDTH - 110, 84, 16
    axis = _around([1.0, *(bar.value for bar in drawn)], left, right)
    height = each * len(drawn) + 10 * len(names)
    svg = _begin(title, top + height + 50)
    for number, name in enumerate(series):
        x = left + min(190, (WIDTH - left) // len(series)) * number
        SubElement(svg, "rect", x=f"{x}", y="44", width="12", height="12", fill=COLOURS[number % len(COLOURS)])
        _text(svg, name, x + 18, 55)
    for value in axis.decades():
        _line(svg, "axis" if value == 1 else "grid", axis.at(value), top - 8, axis.at(value), top + height)
        _text(svg, f"{_short(value)} x", axis.at(value), top + height + 18, anchor="middle", kind="faint")
    _text(svg, across, (left + right) / 2, top + height + 40, anchor="middle")
    y = top
    for name in names:
        of_name = [bar for bar in drawn if bar.name == name]
        _text(svg, name, left - 12, y + each * len(of_name) / 2 + 3, anchor="end")
        for bar in of_name:
            begin, end = sorted((axis.at(1), axis.at(bar.value)))
            colour = COLOURS[series.index(bar.series) % len(COLOURS)]
            width = f"{max(1.0, end - begin):g}"
            SubElement(svg, "rect", x=f"{begin:g}", y=f"{y}", width=width, height=f"{each - 3}", fill=colour)
            _text(svg, bar.text, max(axis.at(1), axis.at(bar.value)) + 6, y + 11, kind="faint")
            y += each
        y += 10
    return _end(svg)


def _around(values: Sequence[float], start: float, end: float) -> _Scale:
    """An axis of whole decades, one at least."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return _Scale(10.0**low, 10.0 ** max(high, low + 1), start, end)


def _exponent(value: float) -> int:
    return round(math.log10(value))


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _begin(title: str, height: float) -> Element:
    svg = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height:g}", role="img")
    SubElement(svg, "title").text = title
    SubElement(svg, "style").text = STYLE
    _text(svg, title, 16, 24, kind="title")
    return svg


def _line(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(svg, "line", {"class": kind}, x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}")


def _text(svg: Element, text: str, x: float, y: float, anchor: str = "start", kind: str = "") -> None:
    styled = {"class": kind} if kind else {}
    SubElement(svg, "text", {**styled, "text-anchor": anchor}, x=f"{x:g}", y=f"{y:g}").text = text


def _end(svg: Element) -> str:
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"
