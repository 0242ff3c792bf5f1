"""The command ``deiii predict RUN --live SOURCE``: a line for each prediction, and JSON lines in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deiii.data.cache.stages import FACES, LOGMEL
from deiii.data.command_line.notes import print_notes
from deiii.data.tools.atomic_files import InputFiles, writable_folder
from deiii.data.tools.counts import counted
from deiii.data.tools.progress import always_shown, say
from deiii.data.tools.text.columns import padded, width_of
from deiii.model.prediction.live.moments import LiveMoments
from deiii.model.prediction.loading import load
from deiii.model.prediction.names import check_video_name
from deiii.model.prediction.predictor import STREAM_HOP_S
from deiii.model.prediction.settings import settings_without_effect
from deiii.model.prediction.windows.moments import Moment
from deiii.model.prediction.windows.units import check_window
from deiii.pipeline.media.streaming.address import LiveError, address

LINES = "live.jsonl"
BAR = 24  # characters


def predict_live(
    runs: Sequence[str],
    source: str,
    out: str | Path,
    window_s: float | None = None,
    hop_s: float | None = None,
    report: Callable[[str], None] = say,
    overlay: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Predict for a live source until it ends or Ctrl-C is pressed.

    Args:
        runs: run folders, exported folders or ``hub:user/name``; several are one ensemble.
        source: number of a camera, URL or file.
        out: folder for ``live.jsonl``, one line per prediction and the summary as the last one.
        window_s, hop_s: length and distance of the windows in s.
        report: receives the text of each prediction.
        overlay: mp4 file for an overlay video; ``None`` for none.
        options: options of `deiii.model.prediction.loading.load`.

    Returns:
        the summary; see `LiveMoments.summary`.

    Raises:
        LiveError: the source cannot be opened, nothing arrives from it, or ``overlay`` is a folder.
        ConfigError: the windows or the name of the overlay video are not possible.
        ValueError: the overlay would replace the source.
        Others: errors of `deiii.model.prediction.loading.load`.
    """
    check_window(window_s, hop_s)
    address(source)  # a wrong one is refused before the network is loaded
    if overlay is not None:
        InputFiles([source]).refuse(overlay)
        writable_folder(Path(overlay).parent)
        if Path(overlay).is_dir():
            raise LiveError(f"--overlay {overlay} is a folder; with --live, name the file to write: live.mp4")
        check_video_name(overlay, folder=False)
    path = writable_folder(out) / LINES
    always = always_shown(report)
    was_there = path.exists()
    network = load(list(runs), **options)
    print_notes(settings_without_effect(network.config, options.get("overrides", ())))
    with (
        LiveMoments(network, source, window_s, hop_s or STREAM_HOP_S, overlay, report) as live,
        open(path, "w") as lines,
    ):
        if was_there:  # only now: for a source that cannot be opened, nothing is replaced
            always(f"{path}: the predictions of an earlier command are replaced")
        reader = live.features.reader
        report(f"{reader.name}: {streams(live)}, window {live.window_s:g} s; Ctrl-C ends")
        try:
            for moment in live:
                report(line(moment, reader.dropped, reader.damage.damaged, reader.damage.missing))
                lines.write(json.dumps(moment.tree()) + "\n")
                lines.flush()
        except KeyboardInterrupt:
            report("stopped")
        found = live.summary()
        lines.write(json.dumps({"summary": found}) + "\n")
    if reader.lost:
        always(f"{reader.name}: {reader.lost}")
    report(describe(found))
    always(f"results: {path}")
    if overlay is not None:
        left_out = counted(found["not_drawn"], "frame was", "frames were")
        skipped = f"; {left_out} left out, because drawing was too slow"
        always(f"overlay: {overlay}{skipped if found['not_drawn'] else ''}")
    return found


def streams(live: LiveMoments) -> str:
    """Return in words the streams of the source, and one that the network reads and the source lacks."""
    reader, reads = live.features.reader, live.features.stages
    has = {"video": reader.has_video, "audio": reader.has_audio}
    wanted = {"video": FACES.name in reads, "audio": LOGMEL.name in reads}
    lacking = [kind for kind in wanted if wanted[kind] and not has[kind]]
    words = " and ".join(kind for kind in has if has[kind])
    return f"{words} (no {lacking[0]}: that input is empty)" if lacking else words


def line(moment: Moment, dropped: int, damaged: int = 0, missing: int = 0) -> str:
    """Return a prediction as one line for the terminal; the numbers are of video frames so far."""
    words = f"{moment.time_s:8.1f} s"
    if not moment.usable:
        return f"{words}  no usable input"
    if moment.label is not None:
        value = moment.probabilities[moment.label]
        width = width_of(moment.probabilities, least=16)
        words += f"  {padded(moment.label, width)} {value:.2f} {'█' * round(BAR * value):{BAR}s}"
    words += "".join(f"  {name} {value:+.2f}" for name, value in moment.attributes.items())
    delay = f"  delay {1000 * moment.delay_s:.0f} ms" if moment.delay_s is not None else ""
    face = "" if moment.face_share is None else f"  face {100 * moment.face_share:.0f} %"
    return (
        f"{words}{face}{delay}"
        + (f"  {counted(dropped, 'frame')} dropped" if dropped else "")
        + (f"  {damaged} damaged, {missing} missing" if damaged or missing else "")
    )


def describe(found: dict[str, Any]) -> str:
    """Return the summary as text for the terminal."""
    lines = [
        f"{found['seconds']:.1f} s, {found['predictions']} predictions, {found['frames']} video frames, "
        f"{found['dropped']} of them dropped, {counted(found['connections'], 'connection')}"
    ]
    if found["damaged"] or found["missing"]:
        damaged = counted(found["damaged"], "video frame was", "video frames were")
        missing = counted(found["missing"], "video frame", "video frames")
        lines.append(f"{damaged} damaged; {missing} did not arrive")
    if not found["predictions"]:
        lines.append("no prediction: the source ended before the first one was due")
    if found["delay_median_s"] is not None:
        median, worst = (1000 * found[f"delay_{kind}_s"] for kind in ("median", "worst"))
        lines.append(f"delay: median {median:.0f} ms, worst {worst:.0f} ms")
    width = width_of(found["probabilities"], least=24)
    for name, value in sorted(found["probabilities"].items(), key=lambda item: -item[1]):
        lines.append(f"  {padded(name, width)} {value:6.3f}")
    return "\n".join(lines)
