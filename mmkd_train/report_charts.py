"""Charts of the report as HTML and inline SVG: tracks over time, latency, modality, counts of classes.

In: a :class:`RunRecord`. Out: text in which everything that came from the bag is escaped. Lengths along time are
percentages, and lettering is HTML, so that the page fits a phone without tiny print.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmkd_ros.drawing import class_colour
from mmkd_train.report_data import SERIES, RunRecord, TrackHistory

TRACK_ROWS = 120
_CLASS_ROWS = 12
_POINTS = 1500  # of one curve; more are thinned to the extremes of equal stretches
_TALL = 4.0  # values above so many times the 95th percentile are drawn at the upper rim
_GAP_PERCENT = 0.2
_RIM_PERCENT = 96.0  # lettering beyond ends at its place, so that it stays on the chart
_SPANS = 1000
_CLOCKS_APART_MS = 60_000.0
_GAP_S = 1.0  # a curve is broken where nothing came for so long and for some of its usual steps
_GAP_STEPS = 3.0
_HEIGHT = 220


def text(value: object, limit: int = 60) -> str:
    """Free text for HTML: escaped, without control characters, at most ``limit`` characters long."""
    plain = "".join(c if c.isprintable() else "\ufffd" for c in str(value)[: limit + 1])
    return html.escape(plain if len(plain) <= limit else plain[: limit - 1] + "…")


def css_colour(name: str) -> str:
    """The colour of a class, as in the overlay."""
    blue, green, red = class_colour(name)
    return f"rgb({red},{green},{blue})"


def dot(name: str) -> str:
    """A small square in the colour of a class."""
    return f'<i class="dot" style="background:{css_colour(name)}"></i>'


def timeline(run: RunRecord) -> str:
    """A bar a track, by class and then by its first sight; the longest ones where there are too many."""
    if not run.tracks:
        return "<p>No tracks were recorded.</p>"
    shown = sorted(run.tracks.values(), key=lambda track: -track.sights)[:TRACK_ROWS]
    common = Counter(track.name for track in run.tracks.values())
    shown.sort(key=lambda track: (-common[track.name], track.name, track.spans[0]))
    rows = "".join(_track_row(track, run) for track in shown)
    left_out = len(run.tracks) - len(shown)
    note = f"<p>The {left_out} tracks with the fewest sights are left out.</p>" if left_out else ""
    legend = "".join(f"<span>{dot(name)}{text(name)}</span>" for name, _ in common.most_common(_CLASS_ROWS))
    return f'<p class="legend">{legend}</p><div class="chart">{rows}{_time_axis(run)}</div>{note}'


def _track_row(track: TrackHistory, run: RunRecord) -> str:
    first, last = ((t - run.begin_ns) / 1e9 for t in (track.spans[0][0], track.spans[-1][1]))
    told = text(f"{track.name} {track.id}") + f": {first:.1f} to {last:.1f} s, {track.sights} sights"
    bars = "".join(
        f'<i class="bar" style="left:{left}%;width:{right - left:.2f}%;background:{css_colour(track.name)}"></i>'
        for left, right in _visible(track.spans, run)
    )
    label = f"<span>{text(track.name)}</span><b>{text(track.id)}</b>"
    return f'<div class="row" title="{told}"><span class="name">{label}</span><span class="lane">{bars}</span></div>'


def _visible(spans: Sequence[tuple[int, int]], run: RunRecord) -> list[tuple[float, float]]:
    """Spans in per cent of the run; those with no visible gap between them are one."""
    bars: list[tuple[float, float]] = []
    for left, right in ((_percent(begin, run), _percent(end, run)) for begin, end in spans):
        if bars and left - bars[-1][1] < _GAP_PERCENT:
            bars[-1] = (bars[-1][0], right)
        else:
            bars.append((left, right))
    return bars


def _percent(time_ns: int, run: RunRecord) -> float:
    """Where a time lies between begin and end, 0 to 100."""
    length = max(1, run.end_ns - run.begin_ns)
    return round(min(100.0, max(0.0, 100.0 * (time_ns - run.begin_ns) / length)), 2)


def _time_axis(run: RunRecord) -> str:
    step = _nice(max(run.seconds, 1e-3) / 8)
    marks = ""
    for n in range(int(run.seconds / step + 1e-9) + 1):
        left = 100 * n * step / max(run.seconds, 1e-3)
        kind = ' class="end"' if left > _RIM_PERCENT else ""
        marks += f'<span{kind} style="left:{left:.2f}%">{n * step:g}</span>'
    return f'<div class="row axis"><span class="name">seconds</span><span class="lane">{marks}</span></div>'


def _nice(value: float) -> float:
    """The next number of the row 1, 2, 5, 10, 20, ... that is not below ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= value * (1 - 1e-9))


def latency(run: RunRecord) -> str:
    """The curves of all delays over time, and their percentiles."""
    recorded = {name: run.delays[name] for name in SERIES if name in run.delays}
    curves = {name: values for name, values in recorded.items() if plausible(values)}
    apart = "".join(
        f"<p>{text(name)}: header stamps and recording times are {abs(middle(recorded[name])) / 1e3:.0f} s apart, as "
        "after a replay with the old stamps; the difference is no latency.</p>"
        for name in recorded
        if name not in curves
    )
    if not curves:
        return apart or "<p>No latency was recorded.</p>"
    every = np.array([ms for values in curves.values() for _, ms in values])
    top = _nice(max(1.0, min(float(every.max()), _TALL * float(np.percentile(every, 95)))))
    lines = "".join(
        f'<path class="curve c{n}" d="{_path(values, run, top)}"/>' for n, values in enumerate(curves.values())
    )
    grid = "".join(f'<path class="grid" d="M0 {_HEIGHT * n / 4:g}H1000"/>' for n in range(5))
    marks = "".join(f'<span style="top:{25 * n}%">{top * (4 - n) / 4:g}</span>' for n in range(5))
    rows = "".join(_delay_row(n, name, values) for n, (name, values) in enumerate(curves.items()))
    above = int((every > top).sum())
    note = f"<p>{above} values above {top:g} ms are drawn at the upper rim.</p>" if above else ""
    return (
        f'<div class="chart"><div class="row plot"><span class="name marks">{marks}</span><span class="lane">'
        f'<svg viewBox="0 0 1000 {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="latency in ms over time">'
        f"{grid}{lines}</svg></span></div>{_time_axis(run)}</div>{note}"
        f'<div class="wide"><table><tr><th>ms</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr>'
        f"{rows}</table></div>{apart}"
    )


def middle(values: Sequence[tuple[int, float]]) -> float:
    """Median in milliseconds."""
    return float(np.median([ms for _, ms in values]))


def plausible(values: Sequence[tuple[int, float]]) -> bool:
    """Whether delays may be delays at all, and not the distance of two clocks."""
    return abs(middle(values)) < _CLOCKS_APART_MS


def _delay_row(number: int, name: str, values: Sequence[tuple[int, float]]) -> str:
    cells = "".join(f"<td>{ms:.1f}</td>" for ms in np.percentile([ms for _, ms in values], (50, 95, 99, 100)))
    return f'<tr><th><i class="dot c{number}"></i>{text(name)}</th>{cells}</tr>'


def _path(values: Sequence[tuple[int, float]], run: RunRecord, top: float) -> str:
    """SVG path commands of a curve, broken at gaps."""
    thinned = _thinned(values)
    steps = np.diff([time_ns for time_ns, _ in thinned])
    gap_ns = max(_GAP_S * 1e9, _GAP_STEPS * float(np.median(steps)) if len(steps) else 0.0)
    points, last = [], -math.inf
    for time_ns, ms in thinned:
        x, y = 10 * _percent(time_ns, run), _HEIGHT * (1 - min(max(ms, 0.0), top) / top)
        # A line of no length has round ends: a lone value is seen as a point.
        points.append(f"{'M' if time_ns - last > gap_ns else 'L'}{x:.1f} {y:.1f}")
        if points[-1][0] == "M":
            points.append("h0")
        last = time_ns
    return "".join(points)


def _thinned(values: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """All values, or the least and the greatest of each of equally long stretches."""
    if len(values) <= _POINTS:
        return values
    kept: list[tuple[int, float]] = []
    for part in np.array_split(np.arange(len(values)), _POINTS // 2):
        stretch = [values[int(i)] for i in part]
        kept += sorted({min(stretch, key=lambda v: v[1]), max(stretch, key=lambda v: v[1])})
    return kept


def modality_spans(run: RunRecord) -> list[tuple[str, int, int]]:
    """(cameras in use, from, to) within the run, times in ns; of very many the longest."""
    spans = []
    for number, (begin, state) in enumerate(run.modality):
        end = run.modality[number + 1][0] if number + 1 < len(run.modality) else run.end_ns
        begin, end = max(begin, run.begin_ns), min(end, run.end_ns)
        if end > begin:
            spans.append((state, begin, end))
    return sorted(sorted(spans, key=lambda span: span[1] - span[2])[:_SPANS], key=lambda span: span[1])


def modality(run: RunRecord) -> str:
    """Which cameras were in use when."""
    spans = modality_spans(run)
    if not spans:
        return "<p>Which cameras were in use was not recorded (detection_node/modality, /diagnostics).</p>"
    known = sum(end - begin for _, begin, end in spans)
    bars, shares = "", Counter[str]()
    for state, begin, end in spans:
        kind = state if state in ("both", "rgb", "thermal") else "none"
        shares[kind] += end - begin
        told = f"{(begin - run.begin_ns) / 1e9:.1f} to {(end - run.begin_ns) / 1e9:.1f} s: {text(state)}"
        width = _percent(end, run) - _percent(begin, run)
        bars += f'<i class="bar m-{kind}" title="{told}" style="left:{_percent(begin, run)}%;width:{width:.2f}%"></i>'
    legend = "".join(
        f'<span><i class="dot m-{kind}"></i>{kind} {100 * part / known:.0f} %</span>'
        for kind, part in shares.most_common()
    )
    row = f'<div class="row tall"><span class="name">cameras</span><span class="lane">{bars}</span></div>'
    return f'<p class="legend">{legend}</p><div class="chart">{row}{_time_axis(run)}</div>'


def classes(run: RunRecord) -> str:
    """Tracks and detections of each class."""
    tracks = Counter(track.name for track in run.tracks.values())
    names = [name for name, _ in (run.objects + tracks).most_common()]
    most = max([1, *run.objects.values()])
    rows = "".join(
        f"<tr><th>{dot(name)}{text(name)}</th><td>{tracks[name]}</td><td>{run.objects[name]}</td>"
        f'<td class="share"><i class="bar" style="width:{100 * run.objects[name] / most:.1f}%;'
        f'background:{css_colour(name)}"></i></td></tr>'
        for name in names[:_CLASS_ROWS]
    )
    rest = names[_CLASS_ROWS:]
    if rest:
        counts = (sum(tracks[name] for name in rest), sum(run.objects[name] for name in rest))
        rows += f"<tr><th>{len(rest)} others</th><td>{counts[0]}</td><td>{counts[1]}</td><td></td></tr>"
    head = "<tr><th>class</th><th>tracks</th><th>detections</th><th></th></tr>"
    return f'<table class="classes">{head}{rows}</table>' if names else "<p>Nothing was found.</p>"
