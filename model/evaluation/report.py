"""``report.html``: one page about one run that needs nothing but itself.

No scripts and no outside files; legible on a phone, and in dark where the reader's system is dark.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_text
from deiii.model.evaluation.figures import (
    confusion_figure,
    figure_curves,
    inline_svg,
    loss_curves,
    save_png,
)
from deiii.model.evaluation.mistakes import Mistake
from deiii.model.evaluation.report_style import STYLE
from deiii.model.metrics import figure_names
from deiii.model.training.run_folder import RunFolder

MOST_FAILURES = 25
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # browsers hold the page to it


def write_report(
    run: RunFolder,
    metrics: dict[str, Any],
    info: dict[str, Any],
    features: FeatureSet,
    mistakes: Sequence[Mistake] = (),
) -> Path:
    """Write the figures and the page; returns the page's path."""
    history, best = run.read_history(), metrics["epoch"]
    curves = {"loss": loss_curves(history, best), "validation": figure_curves(history, best)}
    for name, figure in curves.items():
        save_png(figure, run.figures / f"{name}.png")
    if info["classes"]:
        save_png(
            confusion_figure(metrics["test"]["confusion"], info["classes"]), run.figures / "confusion.png"
        )
    parts = [
        _top(run, metrics, info),
        _section(
            "Training",
            f'<div class="figures">{"".join(inline_svg(f, n) for n, f in curves.items())}</div>',
            "The epoch was chosen on validation speakers; test speakers were scored afterwards.",
        ),
        _confusion(metrics, info["classes"]) if info["classes"] else "",
        _per_class(metrics) if info["classes"] else "",
        _per_speaker(metrics),
        _mistakes(mistakes),
        _ablation(metrics),
        _outcomes(features),
        _provenance(run, info),
    ]
    title = f"DE-III on {escape(info['corpus'])}"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n{''.join(parts)}\n</body></html>\n"
    )
    write_text(run.report, page)
    return run.report


def _top(run: RunFolder, metrics: dict[str, Any], info: dict[str, Any]) -> str:
    test, clips = metrics["test"], metrics["clips"]["test"]
    tiles = []
    for key, label in figure_names(test).items():
        ci = test.get(f"{key}_ci")
        under = f"{ci[0]:.3f} to {ci[1]:.3f}" if ci else "no interval: one speaker"
        tiles.append(
            f'<div class="tile">{label}<b>{_number(test[key])}</b><span class="soft">{under}</span></div>'
        )
    lost = clips["in_split"] - clips["scored"]
    text = f"{clips['scored']} test clips of {len(test['per_speaker'])} speakers never seen in training"
    text += f"; {lost} more could not be used (see Preprocessing)" if lost else ""
    chance = f" Chance UAR is {1 / len(info['classes']):.3f}." if info["classes"] else ""
    return (
        f"<h1>DE-III on {escape(info['corpus'])}</h1>"
        f'<p class="soft">Run {escape(run.path.resolve().name)}, epoch {metrics["epoch"]}. {text}. '
        f"Below each figure: 95 % interval, speakers drawn again 1000 times.{chance}</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _confusion(metrics: dict[str, Any], classes: Sequence[str]) -> str:
    head = "".join(f"<th><span>{escape(c)}</span></th>" for c in classes)
    rows = []
    for name, counts in zip(classes, metrics["test"]["confusion"], strict=True):
        total = max(1, sum(counts))
        cells = "".join(
            f'<td style="background:color-mix(in srgb, var(--first) {round(70 * n / total)}%, transparent)">'
            f"{n or ''}</td>"
            for n in counts
        )
        rows.append(f'<tr><th class="text">{escape(name)}</th>{cells}</tr>')
    table = f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return _section(
        "Confusion",
        f'<div class="scroll"><table class="confusion">{table}</table></div>',
        "Rows are the truth, columns the prediction, numbers are test clips.",
    )


def _per_class(metrics: dict[str, Any]) -> str:
    rows = [
        (name, r["clips"], _number(r["recall"]), _number(r["f1"]), _bar(r["recall"]))
        for name, r in metrics["test"]["per_class"].items()
    ]
    return _section("Classes", _table(("class", "clips", "recall", "F1", ""), rows))


def _per_speaker(metrics: dict[str, Any]) -> str:
    speakers = metrics["test"]["per_speaker"]
    first = next(iter(speakers.values()), {})
    names = {k: v for k, v in figure_names(first).items() if k != "macro_f1"}
    rows = [
        (s, r["clips"], *(_number(r.get(k)) for k in names), _bar(r.get(next(iter(names), ""))))
        for s, r in speakers.items()
    ]
    return _section("Test speakers", _table(("speaker", "clips", *names.values(), ""), rows))


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return ""
    cards = []
    for m in mistakes:
        picture = '<p class="soft">no features to show</p>'
        if m.picture:
            data = b64encode(m.picture).decode()
            alt = f"crops, flow and log-mel of {escape(m.clip, quote=True)}"
            picture = f'<img alt="{alt}" src="data:image/jpeg;base64,{data}">'
        cards.append(
            f"<figure>{picture}<figcaption><b>{escape(m.clip)}</b>, speaker {escape(m.speaker)}<br>"
            f"{escape(m.what)}</figcaption></figure>"
        )
    return _section(
        "Worst mistakes",
        f'<div class="figures">{"".join(cards)}</div>',
        "Test clips that the network was most wrong about: crops, the flow that leaves them, log-mel. "
        "Look for wrong labels and wrong faces first.",
    )


def _ablation(metrics: dict[str, Any]) -> str:
    test = metrics["test"]
    names = [k for k in figure_names(test) if k not in ("war", "macro_f1")]
    found = {"fused head, all inputs": test}
    found |= {f"{h} head alone": r for h, r in metrics["heads"].items()}
    found |= {f"fused head without {w.replace('+', ' and ')}": r for w, r in metrics["without"].items()}
    rows = []
    for what, r in found.items():
        ci = r.get("uar_ci")
        cells = [_number(r.get(k)) for k in names]
        rows.append(
            (
                what,
                *cells,
                f"{ci[0]:.3f} to {ci[1]:.3f}" if ci else "",
                _bar(r.get(names[0])),
            )
        )
    header = ("", *(figure_names(test)[k] for k in names), "95 % of UAR" if "uar" in names else "", "")
    return _section(
        "Heads and missing inputs",
        _table(header, rows),
        "The same network with an input hidden at test time; not a network trained without it.",
    )


def _outcomes(features: FeatureSet) -> str:
    statuses = sorted({str(o.status) for by_id in features.outcomes.values() for o in by_id.values()})
    rows = []
    for stage, by_id in features.outcomes.items():
        count = Counter(str(o.status) for o in by_id.values())
        rows.append((stage, *(count.get(s, 0) for s in statuses), features.keys[stage]))
    body = _table(("stage", *statuses, "cache key"), rows)
    bad = [
        (stage, clip, str(o.status), o.reason)
        for stage, by_id in features.outcomes.items()
        for clip, o in by_id.items()
        if not o.usable
    ]
    if bad:
        shown = _table(("stage", "clip", "outcome", "reason"), bad[:MOST_FAILURES], text=(1, 2, 3))
        more = f"<p>and {len(bad) - MOST_FAILURES} more</p>" if len(bad) > MOST_FAILURES else ""
        body += f"<details><summary>{len(bad)} clips without features</summary>{shown}{more}</details>"
    return _section("Preprocessing", body, f"All {len(features.corpus.clips)} clips of the corpus.")


def _provenance(run: RunFolder, info: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in info["versions"].items())
    rows = [
        ("source revision", info["revision"] or "unknown: not a git checkout"),
        ("split", info["split"]),
        ("cache keys", ", ".join(f"{s} {k}" for s, k in info["keys"].items())),
        ("clips", ", ".join(f"{n} {part}" for part, n in info["clips"].items())),
        ("versions", versions),
        ("trained on", f"{info['platform']}, {info['gpu'] or 'no GPU'}"),
        ("command", info["command"]),
    ]
    config = escape(run.config.read_text(encoding="utf-8"))
    table = _table(("", ""), rows, text=(1,), header=False)
    return _section(
        "Provenance", f"{table}<details><summary>All settings</summary><pre>{config}</pre></details>"
    )


def _section(title: str, body: str, note: str = "") -> str:
    note = f'<p class="soft">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{note}{body}</section>\n"


class _Markup(str):
    """Text that is HTML already."""


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], text: tuple[int, ...] = (), header: bool = True
) -> str:
    """A table; columns in ``text`` are set left and may break, a `_Markup` cell is a bar."""

    def cell(i: int, value: Any) -> str:
        if isinstance(value, _Markup):
            return f'<td class="bar">{value}</td>'
        return f"<td{kind(i)}>{escape(str(value))}</td>"

    kind = lambda i: ' class="text"' if i in text else ""
    top = "".join(f"<th{kind(i)}>{escape(h)}</th>" for i, h in enumerate(head))
    body = "".join("<tr>" + "".join(cell(i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    top = f"<thead><tr>{top}</tr></thead>" if header else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _bar(share: float | None) -> _Markup:
    return _Markup(f'<i style="width:{100 * max(0.0, share or 0.0):.0f}%"></i>')


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
