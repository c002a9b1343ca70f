"""A run's curves as drawings, in a page or a file: bits per character, learning rate, speed and gradient norm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.report.elements import Attribute, Markup, element, folded, number, table
from training.report.style import SVG_STYLE

WIDE, NARROW = (920, 380), (340, 300)  # a drawing does not reflow: one for a desk, one for a phone, in CSS pixels
SMALL = (300, 200)
MARGIN, GAP, LEGEND = 16, 10, 30  # of curves.svg: around all, between drawings, and what the legend is high
RIGHT, TOP, BOTTOM = 18, 30, 44  # margins with room for what the axes are called, and for the ticks below
DIGIT = 8  # width of a digit of the labels at most: they are set in 13 pixels
UP_SPACING, ACROSS_SPACING = 30, 60  # pixels between two ticks at least
HEADROOM = 0.06  # of the range of values, free above and below

CURVES = "curves.svg"
NAMESPACE = "http://www.w3.org/2000/svg"

MetricsLine = Mapping[str, Any]
"""A line of metrics.jsonl: a `training.monitoring.watcher.Validation` as JSON values."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart. style: its class in the page's style. points: (x, y), finite."""

    name: str
    style: str
    points: list[Point]
    hints: list[str]


@dataclass(frozen=True)
class Chart:
    """What a drawing shows.

    summary: in words, for readers who cannot see it. across, up: what the axes are called. best: a point to mark.
    from_zero: whether the axis upwards begins at zero.
    """

    summary: str
    across: str
    up: str
    series: list[Series]
    best: Point | None = None
    from_zero: bool = False


@dataclass(frozen=True)
class Axis:
    """Values to places on the page, linear; ticks at round values."""

    least: float
    most: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        """Where a value is drawn, to a tenth of a pixel."""
        return round(self.begin + (value - self.least) / (self.most - self.least) * (self.end - self.begin), 1)

    def ticks(self, spacing: float) -> list[tuple[float, str]]:
        """Round values about `spacing` pixels apart, and how they are written."""
        step = _round_step((self.most - self.least) * spacing / abs(self.end - self.begin))
        first, last = math.ceil(self.least / step - 1e-9), math.floor(self.most / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(at * step, _written(at * step, decimals)) for at in range(first, last + 1)]


def curves(validations: Sequence[MetricsLine], best_step: int) -> Markup:
    """The charts of a run, and their values as a table; a sentence where there is nothing to draw.

    best_step: the step of the best checkpoint.
    """
    if not validations:
        return element("p", "The run ended before it was ever validated, so there are no curves.")
    best = _best(validations, best_step)
    main, small = _charts(validations, best)
    words = (
        "Lower is better. Train is the running mean over the steps before, with everything that makes learning harder "
        "on purpose, dropout and the like; validation is text that is never learnt from."
    )
    wide, narrow = draw(main, WIDE, "wide"), draw(main, NARROW, "narrow")
    figure = element("figure", legend(main.series, best), wide, narrow, element("figcaption", words))
    drawn = [element("figure", draw(chart, SMALL, "")) for chart in small]
    return Markup(figure + element("div", *drawn, class_="small-charts") + _values(validations, best_step))


def curves_svg(validations: Sequence[MetricsLine], best_step: int) -> str:
    """The same charts as one SVG file that needs nothing else and has a ground of its own.

    validations: one at least. best_step: the step of the best checkpoint.
    """
    best = _best(validations, best_step)
    main, small = _charts(validations, best)
    below = MARGIN + LEGEND + WIDE[1] + GAP
    parts = [*_legend_line(main.series, best), draw(main, WIDE, "wide", **_box(MARGIN, MARGIN + LEGEND, WIDE))]
    for at, chart in enumerate(small):
        parts.append(draw(chart, SMALL, "", **_box(MARGIN + at * (SMALL[0] + GAP), below, SMALL)))
    width, height = WIDE[0] + 2 * MARGIN, below + SMALL[1] + MARGIN
    ground = element("rect", width=width, height=height, class_="card")
    style = element("style", Markup(SVG_STYLE))
    box = f"0 0 {width} {height}"
    kind: dict[str, Attribute] = {"xmlns": NAMESPACE, "viewBox": box, "class_": "chart"}
    return element("svg", style, ground, *parts, **kind, width=width, height=height) + "\n"


def _best(validations: Sequence[MetricsLine], best_step: int) -> MetricsLine | None:
    return next((validation for validation in validations if validation["step"] == best_step), None)


def _charts(validations: Sequence[MetricsLine], best: MetricsLine | None) -> tuple[Chart, list[Chart]]:
    """Bits per character, and the small charts for which there are values."""
    unit, word = _unit(max(validation["characters"] for validation in validations))
    across = f"{word} characters read".strip()
    small = [
        _small_chart(validations, unit, across, "rate", "learning rate"),
        _small_chart(validations, unit, across, "characters_per_second", "characters per second"),
        _small_chart(validations, unit, across, "gradient_norm", "norm of the gradient"),
    ]
    return _bits_chart(validations, best, unit, across), [chart for chart in small if chart.series[0].points]


def _box(x: int, y: int, size: tuple[int, int]) -> dict[str, Attribute]:
    """Where a drawing lies within another."""
    return {"x": x, "y": y, "width": size[0], "height": size[1]}


def _bits_chart(validations: Sequence[MetricsLine], best: MetricsLine | None, unit: float, across: str) -> Chart:
    series = [
        Series(name, name, *_points(validations, f"{name}_bits", unit, f"{name} {{:.4f}} bits"))
        for name in ("train", "validation")
    ]
    first, last = validations[0], validations[-1]
    ends = [
        f"{one.name} from {number(first[f'{one.name}_bits'], '.3f')} to {number(last[f'{one.name}_bits'], '.3f')}"
        for one in series
    ]
    summary = f"Bits per character over the characters read: {', '.join(ends)}. {_best_words(best)}".strip()
    marked = best is not None and _finite(best["validation_bits"])
    point = (best["characters"] / unit, float(best["validation_bits"])) if best and marked else None
    return Chart(summary, across, "bits per character", series, point)


def _small_chart(validations: Sequence[MetricsLine], unit: float, across: str, key: str, name: str) -> Chart:
    points, hints = _points(validations, key, unit, f"{name} {{:,.4g}}")
    ends = f" from {points[0][1]:,.4g} to {points[-1][1]:,.4g}" if points else ""
    summary = f"{name.capitalize()}{ends}, over the characters read."
    return Chart(summary, across, name, [Series(name, "plain", points, hints)], from_zero=True)


def _points(validations: Sequence[MetricsLine], key: str, unit: float, form: str) -> tuple[list[Point], list[str]]:
    kept = [validation for validation in validations if _finite(validation.get(key))]
    points = [(validation["characters"] / unit, float(validation[key])) for validation in kept]
    return points, [f"step {validation['step']:,}: {form.format(validation[key])}" for validation in kept]


def draw(chart: Chart, size: tuple[int, int], style: str, **box: Attribute) -> Markup:
    """A chart as an SVG element, `size` pixels wide and high. box: where it lies in a drawing around it."""
    width, height = size
    every = [point for series in chart.series for point in series.points]
    xs, ys = [x for x, _ in every] or [0.0], [y for _, y in every] or [0.0]
    up = Axis(*_range(ys, chart.from_zero), height - BOTTOM, TOP)
    left = 12 + DIGIT * max(len(written) for _, written in up.ticks(UP_SPACING))
    across = Axis(0.0, max(xs) * 1.02 or 1.0, left, width - RIGHT)
    parts = [*_upwards(chart.up, up, left, width - RIGHT), *_across(chart.across, across, height)]
    parts += [_line(series, across, up) for series in chart.series]
    if chart.best is not None:
        x, y = across.place(chart.best[0]), up.place(chart.best[1])
        parts.append(element("circle", cx=x, cy=y, r=7, class_="best"))
    kind, view = f"chart {style}".strip(), f"0 0 {width} {height}"
    return element("svg", *parts, viewBox=view, class_=kind, role="img", aria_label=chart.summary, **box)


def _upwards(name: str, axis: Axis, left: int, right: int) -> list[Markup]:
    """The axis of values: its name above it, its ticks as lines across."""
    parts = [element("text", name, x=0, y=13, class_="name")]
    for value, written in axis.ticks(UP_SPACING):
        y = axis.place(value)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", written, x=left - 8, y=y + 4.5, text_anchor="end"))
    return parts


def _across(name: str, axis: Axis, height: int) -> list[Markup]:
    """The axis of characters read, its ticks and its name below it."""
    floor = height - BOTTOM
    parts = [element("line", x1=axis.begin, x2=axis.end, y1=floor, y2=floor, class_="axis")]
    for value, written in axis.ticks(ACROSS_SPACING):
        x = axis.place(value)
        parts.append(element("line", x1=x, x2=x, y1=floor, y2=floor + 5, class_="axis"))
        parts.append(element("text", written, x=x, y=floor + 18, text_anchor="middle"))
    middle = (axis.begin + axis.end) / 2
    return [*parts, element("text", name, x=middle, y=height - 6, text_anchor="middle", class_="name")]


def _line(series: Series, across: Axis, up: Axis) -> Markup:
    places = [(across.place(x), up.place(y)) for x, y in series.points]
    line = element("polyline", points=" ".join(f"{x},{y}" for x, y in places))
    dots = [
        element("circle", element("title", hint), cx=x, cy=y, r=3)
        for (x, y), hint in zip(places, series.hints, strict=True)
    ]
    return element("g", line, *dots, class_=f"series {series.style}")


def legend(series: Sequence[Series], best: MetricsLine | None = None) -> Markup:
    """What the lines are, above the drawing, where no line can run through it."""
    line = [element("line", x1=0, x2=30, y1=7, y2=7, class_=f"series {one.style}") for one in series]
    items = [
        element("li", element("svg", swatch, viewBox="0 0 30 14", class_="swatch", aria_hidden="true"), f" {one.name}")
        for swatch, one in zip(line, series, strict=True)
    ]
    if best is not None:
        ring = element("circle", cx=7, cy=7, r=6, class_="best")
        swatch = element("svg", ring, viewBox="0 0 14 14", class_="swatch chart", aria_hidden="true")
        items.append(element("li", swatch, f" {_best_words(best)}"))
    return element("ul", *items, class_="legend")


def _legend_line(series: Sequence[Series], best: MetricsLine | None) -> list[Markup]:
    """The same within a drawing, as one line of it."""
    x, y, parts = MARGIN, MARGIN + 9, list[Markup]()
    for one in series:
        parts.append(element("line", x1=x, x2=x + 30, y1=y, y2=y, class_=f"series {one.style}"))
        parts.append(element("text", one.name, x=x + 38, y=y + 4.5))
        x += 62 + DIGIT * len(one.name)
    if best is not None:
        parts.append(element("circle", cx=x + 7, cy=y, r=6, class_="best"))
        parts.append(element("text", _best_words(best), x=x + 22, y=y + 4.5))
    return parts


def _best_words(best: MetricsLine | None) -> str:
    return (
        ""
        if best is None
        else f"best checkpoint: {number(best['validation_bits'], '.3f')} at step {number(best['step'])}"
    )


def _values(validations: Sequence[MetricsLine], best_step: int) -> Markup:
    head = ("step", "characters", "minutes", "train", "validation", "rate", "characters/s", "gradient", "checkpoint")
    rows = [
        (
            number(validation["step"]),
            number(validation["characters"]),
            number(validation["seconds"] / 60, ".2f"),
            number(validation["train_bits"], ".4f"),
            number(validation["validation_bits"], ".4f"),
            number(validation["rate"], ".3g"),
            number(validation["characters_per_second"]),
            number(validation.get("gradient_norm"), ".3g"),
            "best" if validation["step"] == best_step else "",
        )
        for validation in validations
    ]
    return folded(f"All {len(validations)} validations as a table", table(head, rows))


def _range(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """From where to where an axis goes."""
    least, most = min(values), max(values)
    if from_zero:
        return 0.0, most * (1 + HEADROOM) or 1.0
    if most - least < 1e-9 * max(abs(most), 1e-9):  # one value, or a constant
        spread = abs(most) / 2 or 1.0
        return least - spread, most + spread
    room = (most - least) * HEADROOM
    return least - room, most + room


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten that is not smaller."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def _written(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}" if decimals <= 4 else f"{value:.{3}g}"


def _unit(most: float) -> tuple[float, str]:
    for unit, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if most >= 2 * unit:
            return unit, word
    return 1.0, ""


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
