"""The report's page: one HTML file that asks for nothing else, in the reader's light or dark colours.

In: a :class:`RunRecord` and the thumbnails of its tracks. Out: the text of the page, without scripts; its policy
forbids the browser every request.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from mmkd_train import report_charts as charts
from mmkd_train.report_charts import text
from mmkd_train.report_data import RunRecord, TrackHistory, percentiles
from mmkd_train.report_pictures import SIDE, Thumbnails

CARDS = 60

_STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--text:#1d2024;--dim:#59606a;--lane:#ecece7;--line:#d6d7d1;
--c0:#1f6fb2;--c1:#c4561b;--c2:#3c8a4a;--both:#3f9a52;--rgb:#3b7fd0;--thermal:#e0812a;--none:#9a9a94;--name:9.5em}
@media(prefers-color-scheme:dark){:root{--page:#14161a;--card:#1d2026;--text:#e7e8ea;--dim:#a2a9b3;--lane:#2a2e36;
--line:#3a3f48;--c0:#6db3f2;--c1:#f0945c;--c2:#7fce8d;--none:#6c7077}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1100px;margin:0 auto;padding:12px 16px 48px}
h1{font-size:1.5rem;margin:.6em 0 .1em}h2{font-size:1.1rem;margin:0 0 .6em}
p{margin:.4em 0;overflow-wrap:anywhere}p,.dim{color:var(--dim)}
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin:14px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px 16px;margin:0}
.figures dt{color:var(--dim);font-size:.85rem}.figures dd{margin:0;font-size:1.25rem;overflow-wrap:anywhere}
.legend span{display:inline-block;margin-right:1.2em;color:var(--text)}
.dot{display:inline-block;width:.75em;height:.75em;border-radius:3px;margin-right:.45em;vertical-align:-.05em}
.row{display:grid;grid-template-columns:var(--name) minmax(0,1fr);align-items:center}
.row{font-size:.78rem;line-height:1.15rem}
.row .name{display:flex;gap:.35em;color:var(--dim);white-space:nowrap;overflow:hidden;padding-right:.6em}
.name>*{overflow:hidden;text-overflow:ellipsis}.name b{flex:none;max-width:80%}
.lane{position:relative;display:block;height:.7rem;background:var(--lane);border-radius:2px}
.row b{color:var(--text)}.row:hover .name{color:var(--text)}
.tall .lane{height:1.6rem}
.bar{position:absolute;top:0;height:100%;min-width:3px;border-radius:2px}
.axis .lane{background:none;height:1.4rem}
.axis .lane span{position:absolute;top:.15rem;transform:translateX(-50%);color:var(--dim)}
.axis .lane .end{transform:translateX(-100%)}
.plot{align-items:stretch}.plot .lane{height:auto;background:none}
.plot svg{display:block;width:100%;height:220px;overflow:visible}
.marks{position:relative;overflow:visible!important}
.marks span{position:absolute;right:.6em;overflow:visible;transform:translateY(-50%)}
svg path{fill:none;vector-effect:non-scaling-stroke}
.grid{stroke:var(--line);stroke-width:1}.curve{stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
path.c0{stroke:var(--c0)}path.c1{stroke:var(--c1)}path.c2{stroke:var(--c2)}
i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}
.m-both{background:var(--both)}.m-rgb{background:var(--rgb)}.m-thermal{background:var(--thermal)}
.m-none{background:var(--none)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;margin-top:.8em}
th,td{padding:.2em 1em .2em 0;text-align:right;font-weight:400}
th:first-child{text-align:left;padding-left:1.2em;text-indent:-1.2em}
tr:first-child th{color:var(--dim)}
.classes{width:100%}.classes th{overflow-wrap:anywhere}.share{position:relative;width:45%}
.share .bar{left:0;top:50%;height:.8em;transform:translateY(-50%)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(248px,1fr));gap:12px}
figure{margin:0;min-width:0}
figure div{display:flex;gap:4px}
figure img,figure .absent{width:50%;height:auto;max-width:120px;aspect-ratio:1;border-radius:4px;background:var(--lane)}
figure .absent{display:grid;place-items:center;text-align:center;font-size:.75rem;color:var(--dim)}
figcaption{font-size:.85rem;line-height:1.3;margin-top:.3em;overflow-wrap:anywhere}
@media(max-width:600px){:root{--name:6.2em}main{padding:6px 8px 32px}section{padding:12px 10px}
th,td{padding-right:.6em}.share{width:30%}.axis .lane span:nth-child(even){display:none}
.cards{grid-template-columns:repeat(auto-fill,minmax(134px,1fr))}}
"""


def best_tracks(run: RunRecord, count: int = CARDS) -> list[TrackHistory]:
    """The tracks that get a card: those seen most often, in the order of their first sight."""
    most = sorted(run.tracks.values(), key=lambda track: -track.sights)[:count]
    return sorted(most, key=lambda track: track.spans[0])


def page(run: RunRecord, source: str, thumbnails: Mapping[str, Thumbnails], remark: str) -> str:
    """The whole HTML document.

    Args:
        run: what was read.
        source: name of the bag.
        thumbnails: track id -> pictures, of the tracks that `best_tracks` names.
        remark: why there are no thumbnails, or an empty text.
    """
    sections = [
        ("Tracks over time", charts.timeline(run)),
        ("Latency", charts.latency(run)),
        ("Cameras in use", charts.modality(run)),
        ("Classes", charts.classes(run)),
        ("Tracks at their best moment", _cards(run, thumbnails, remark)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        "'unsafe-inline'\">"
        f"<title>{text(source)}: detection and tracking report</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>Detection and tracking report</h1><p>{text(source)}</p>"
        f'<section><h2>In figures</h2><dl class="figures">{_figures(run)}</dl></section>{body}</main></body></html>\n'
    )


def _figures(run: RunRecord) -> str:
    shown = {
        "recorded": f"{run.seconds:.1f} s",
        "messages": " + ".join(f"{count} {topic.rpartition('/')[2]}" for topic, count in sorted(run.messages.items())),
        "rate": f"{_rate(run):.1f} Hz",
        "tracks": f"{len(run.tracks)}",
        "objects": f"{run.objects.total()}",
        **{f"latency {name}": f"{ms:.0f} ms" for name, ms in _latency(run).items()},
        "images dropped": _dropped(run.figures),
        "device": " / ".join(filter(None, (run.figures.get("device", ""), run.figures.get("backend", "")))),
        "weights": Path(run.figures.get("weights", "")).name,
    }
    return "".join(
        f"<div><dt>{text(key)}</dt><dd>{text(value).replace('.', '.<wbr>')}</dd></div>"
        for key, value in shown.items()
        if value
    )


def _rate(run: RunRecord) -> float:
    """Messages a second on the busiest of our topics."""
    return (max(run.messages.values()) - 1) / run.seconds if run.seconds > 0 else 0.0


def _latency(run: RunRecord) -> dict[str, float | None]:
    """Median and 95th percentile in ms of the whole way, where the stamps tell it."""
    series = run.longest_way
    if not series or not charts.plausible(series):
        return {}
    return percentiles([ms for _, ms in series], 50, 95)


def _dropped(figures: Mapping[str, str]) -> str:
    """Counters of the detection node that are not 0."""
    counts = {key.partition(".")[2]: value for key, value in figures.items() if key.startswith("dropped.")}
    return ", ".join(f"{reason} {n}" for reason, n in counts.items() if n != "0") if counts else ""


def _cards(run: RunRecord, thumbnails: Mapping[str, Thumbnails], remark: str) -> str:
    cards = [_card(track, thumbnails[track.id], run) for track in best_tracks(run) if track.id in thumbnails]
    told = [remark] if remark else []
    if cards and len(run.tracks) > len(cards):
        told.append(f"{len(cards)} of {len(run.tracks)} tracks, those seen most often.")
    paragraphs = "".join(f"<p>{text(sentence, limit=1000)}</p>" for sentence in told)
    return f'{paragraphs}<div class="cards">{"".join(cards)}</div>'


def _card(track: TrackHistory, pictures: Thumbnails, run: RunRecord) -> str:
    images = "".join(_image(kind, data) for kind, data in (("RGB", pictures.rgb), ("thermal", pictures.thermal)))
    begin, end = ((t - run.begin_ns) / 1e9 for t in (track.spans[0][0], track.spans[-1][1]))
    caption = f"{charts.dot(track.name)}{text(track.name)} <b>{text(track.id)}</b>"
    told = f"score {track.best.drawn.score:.2f}, {begin:.1f} to {end:.1f} s"
    return f'<figure><div>{images}</div><figcaption>{caption}<br><span class="dim">{told}</span></figcaption></figure>'


def _image(kind: str, data: bytes | None) -> str:
    if data is None:
        return f'<span class="absent">no {kind} image</span>'
    coded = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{coded}" width="{SIDE}" height="{SIDE}" alt="{kind}">'
