"""Charts as SVG: two shapes that need no library. They consist of shapes and text, and run nothing."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from rdsiam.report.formatting import days, moment, percent
from rdsiam.report.markup import Attribute, Markup, element

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 74, 16, 28
#: Runs that are further apart may have the same day and month.
_YEAR_NEEDED = timedelta(days=300)


def bar(share: float | None) -> Markup:
    """Return a bar of a share; screen readers skip it, since the figure is beside it."""
    done = [] if share is None else [element("rect", {"class": "done", "width": f"{share * 100:.2f}", "height": 6})]
    return element(
        "svg",
        {"class": "bar", "viewBox": "0 0 100 6", "preserveAspectRatio": "none", "aria-hidden": "true"},
        element("rect", {"class": "rest" if share is not None else "none", "width": 100, "height": 6}),
        *done,
    )


def trend(points: Sequence[tuple[str, float]], width: int, height: int, label: str) -> Markup:
    """Return a line of shares over time.

    :param points: RFC 3339 time and share, oldest first; at least two.
    :param label: description for screen readers.
    """
    low, high, step = _scale([share for _, share in points])
    times = [moment(time).timestamp() for time, _ in points]
    written = days([time for time, _ in points])
    begin, length = times[0], (times[-1] - times[0]) or 1.0

    def x(at: float) -> float:
        return _LEFT + (at - begin) / length * (width - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _TOP + (high - share) / (high - low) * (height - _TOP - _BOTTOM)

    line = [(x(at), y(share)) for at, (_, share) in zip(times, points, strict=True)]
    ticks = [low + step * count for count in range(round((high - low) / step) + 1)]
    grid = [
        part
        for tick in ticks
        for part in (
            element(
                "line", {"class": "grid", "x1": _LEFT, "x2": width - _RIGHT, "y1": _at(y(tick)), "y2": _at(y(tick))}
            ),
            element("text", {"x": _LEFT - 10, "y": _at(y(tick) + 4), "text-anchor": "end"}, f"{tick * 100:.0f}%"),
        )
    ]
    dots = [
        element(
            "circle",
            {"class": "dot", "cx": _at(across), "cy": _at(down), "r": 2.5},
            element("title", None, f"{written(time)}: {percent(share)}"),
        )
        for (across, down), (time, share) in zip(line[:-1], points, strict=False)
    ]
    across, down = line[-1]
    return element(
        "svg",
        {"class": "trend", "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label},
        *grid,
        *_days(points, line, width, height),
        element("polyline", {"class": "line", "points": " ".join(f"{_at(a)},{_at(d)}" for a, d in line)}),
        *dots,
        element("circle", {"class": "now", "cx": _at(across), "cy": _at(down), "r": 5}),
        element("text", {"class": "now", "x": _at(across + 10), "y": _at(down + 5)}, percent(points[-1][1])),
    )


def _scale(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return the lowest and highest share of the axis and the step between its lines, all round figures."""
    spread = max(max(shares) - min(shares), 0.02)
    step = next(each for each in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if spread / each <= 4 or each == 0.25)
    low = max(0.0, math.floor(min(shares) / step + 1e-9) * step)
    high = min(1.0, math.ceil(max(shares) / step - 1e-9) * step)
    if high - low < step:
        low, high = (low, low + step) if low + step <= 1 else (low - step, low)
    return low, high, step


def _days(
    points: Sequence[tuple[str, float]], line: Sequence[tuple[float, float]], width: int, height: int
) -> list[Markup]:
    """Return the labels of the axis: the first and the last day, and as many between as there is room for.

    No two are alike: runs of one day have their time, and the year is written if the runs are months apart.
    """
    format = _label(points)
    fit = max(2, (width - _LEFT - _RIGHT) // 130)
    shown, texts, last = [], list[str](), -math.inf
    wanted = [line[0][0] + (line[-1][0] - line[0][0]) * index / (fit - 1) for index in range(fit)]
    for target in wanted:
        index = min(range(len(line)), key=lambda each: abs(line[each][0] - target))
        across = line[index][0]
        text = format(moment(points[index][0]))
        if across - last >= 70 and text not in texts:
            last = across
            texts.append(text)
            attributes: dict[str, Attribute] = {"x": _at(across), "y": height - 6, "text-anchor": "middle"}
            shown.append(element("text", attributes, text))
    return shown


def _label(points: Sequence[tuple[str, float]]) -> Callable[[datetime], str]:
    first, last = moment(points[0][0]), moment(points[-1][0])
    if first.date() == last.date():
        return lambda at: f"{at:%H:%M}"
    if last - first > _YEAR_NEEDED:
        return lambda at: f"{at:%b %Y}"
    return lambda at: f"{at.day} {at:%b}"


def _at(coordinate: float) -> str:
    return f"{coordinate:.1f}"
