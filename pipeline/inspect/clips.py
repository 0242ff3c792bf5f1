"""Contact sheets and videos of clips, and an overview of the worst clips of a corpus."""

from __future__ import annotations

import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deiii.data.cache.stages import FACES, get_stage
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import (
    InputFiles,
    atomic_path,
    short_name,
    writable_folder,
)
from deiii.data.tools.counts import counted
from deiii.data.tools.pictures import figure_text
from deiii.data.tools.progress import say
from deiii.data.tools.text.printable import printable_name
from deiii.pipeline.extract import Features, extract, read_cached, read_indices
from deiii.pipeline.faces.quality import describe_figures, face_figures, shows_pose
from deiii.pipeline.inspect.clip_video import draw_video
from deiii.pipeline.inspect.contact_sheet import COLUMNS, draw_contact_sheet
from deiii.pipeline.inspect.source_frames import chosen_frames
from deiii.pipeline.stages.first_clips import ends_command

OVERVIEW = "worst.png"
PAGE = 20  # clips on the overview; with more of them the image would be too long


class NothingToDraw(ValueError):
    """A file has neither video frames nor audio that can be decoded; the message states why."""


def extract_for_drawing(path: str | Path, config: Config) -> Features:
    """Compute the features of a media file of which something can be drawn.

    Raises:
        NothingToDraw: no frame and no audio can be decoded, because the file is missing or not media.
    """
    features = extract(path, config)
    if features.frames is None and features.logmel is None and not chosen_frames(features, None, 64, 1):
        reasons = [o.reason for stage, o in features.outcomes.items() if get_stage(stage).upstream is None]
        raise NothingToDraw("; ".join(dict.fromkeys(reasons)))
    return features


def draw_all(
    clips: Iterable[tuple[str, Callable[[], Features]]],
    config: Config,
    out: Path,
    with_video: bool,
    inputs: Sequence[str] = (),
    reserved: Collection[str] = (),
) -> list[str]:
    """Draw a contact sheet and, on request, a video of each clip, and print a line about each.

    A clip that cannot be drawn does not keep the others from being drawn; its line goes to standard error.

    Args:
        clips: the name of each clip, and a function that returns its features. The clip's files are named
            after the last part of its name, without the suffix of a media file.
        config: settings.
        out: folder of the files; it is created if it is missing.
        with_video: whether videos are also drawn.
        inputs: media files, which are not overwritten.
        reserved: names of files in ``out``, without suffix, that no clip may have.

    Returns:
        the names of clips that could not be drawn.
    """
    writable_folder(out)
    failed: list[str] = []
    read = InputFiles(inputs)
    taken = {name.casefold() for name in reserved}  # folders of macOS do not distinguish capitals
    for name, get in clips:
        stem = Path(name).stem if name in inputs else name
        base = safe = short_name(re.sub(r"[^\w.-]+", "_", stem)) or "clip"
        n = 2
        while base.casefold() in taken:  # clips in different folders may have the same name
            base = f"{safe}-{n}"
            n += 1
        taken.add(base.casefold())
        files: list[Path] = []
        try:
            features = get()
            for target in (out / f"{base}.png", out / f"{base}.mp4"):
                read.refuse(target)
                InputFiles([features.path]).refuse(target)
            quality = describe_face(features, config)
            draw_contact_sheet(features, out / f"{base}.png", config.faces.fps, quality)
            files.append(out / f"{base}.png")
            if with_video:
                draw_video(features, out / f"{base}.mp4", config.faces.fps)
                files.append(out / f"{base}.mp4")
        except Exception as error:  # one unusual file must not keep the others from being drawn
            if ends_command(error):
                raise
            failed.append(name)
            drawn = f"; drawn: {files[0]}" if files else ""
            what = "" if isinstance(error, NothingToDraw) else f"{type(error).__name__}: "
            print(
                f"error: {printable_name(name)} cannot be drawn: {what}{error}{drawn}",
                file=sys.stderr,
                flush=True,
            )
            continue
        said = "; ".join(filter(None, [features.describe(), quality]))
        say(f"{printable_name(features.path)}: {said}; ", end="")
        print(" and ".join(map(str, files)), flush=True)
    return failed


def describe_face(features: Features, config: Config) -> str:
    """Return width, sharpness, brightness and direction of the face as text; empty without a face."""
    frames, valid, box, landmarks = features.frames, features.valid, features.box, features.landmarks
    if frames is None or valid is None or box is None or landmarks is None or not valid.any():
        return ""
    faces = {"frames": frames, "valid": valid, "landmarks": landmarks}
    figures = face_figures(faces, posed=shows_pose(config.faces))
    width = float(np.median(box[valid, 2]))
    return f"face {width:.0f} px wide, {describe_figures(figures)}"


def draw_worst(config: Config, corpus: Corpus, count: int, out: Path, with_video: bool) -> None:
    """Draw the clips of a preprocessed corpus with the smallest share of valid video frames.

    Writes the files of `draw_all` and ``worst.png``, which has one row of evenly spaced frames a clip.

    Args:
        config: settings.
        corpus: the scanned corpus.
        count: number of clips.
        out: folder of the files; it is created if it is missing.
        with_video: whether videos are also drawn.

    Raises:
        CacheError: the corpus is not preprocessed with these settings.
        ConfigError: ``stages`` has no faces.
    """
    if FACES.name not in config.stages:
        raise ConfigError(
            f"clips are ordered by their valid video frames, but stages={config.stages} has no {FACES.name}; "
            "name media files instead, or use the settings of a preprocessing with faces"
        )
    rows = read_indices(config, corpus)[FACES.name].clips
    order = sorted(corpus.clips, key=lambda c: (rows[c.id].fraction, c.id))[:count]
    writable_folder(out)
    features = [read_cached(config, corpus, clip) for clip in order[:PAGE]]
    _overview([(c.id, f) for c, f in zip(order, features, strict=False)], config, out / OVERVIEW)
    shown = counted(len(order), "clip")
    say(f"{shown} of {corpus.title}, those with the smallest share of valid frames:")
    for clip in order:
        row = rows[clip.id]
        why = f": {row.reason}" if row.reason else ""
        say(f"  {row.fraction:7.1%}  {printable_name(clip.id)}  {row.status}{why}")
    print(f"overview: {out / OVERVIEW}", flush=True)
    clips = ((clip.id, lambda clip=clip: read_cached(config, corpus, clip)) for clip in order)
    draw_all(clips, config, out, with_video, reserved=[Path(OVERVIEW).stem])


def _overview(clips: list[tuple[str, Features]], config: Config, path: Path) -> None:
    """Write a PNG with one row per clip: name, outcome, frames."""
    figure = Figure(figsize=(1.5 * COLUMNS + 3.2, 1.3 * len(clips) + 0.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(max(1, len(clips)), COLUMNS + 1, width_ratios=[2.0] + [1.0] * COLUMNS)
    for i, (name, features) in enumerate(clips):
        outcome = features.outcomes[FACES.name]
        words = textwrap.wrap(
            figure_text(f"{outcome.status} {outcome.fraction:.0%} {outcome.reason}"),
            38,
            break_on_hyphens=False,
        )
        axes = figure.add_subplot(grid[i, 0])
        axes.set_axis_off()
        axes.text(
            0, 1, figure_text(name[-38:]), va="top", fontsize=9, fontweight="bold", transform=axes.transAxes
        )
        axes.text(0, 0.8, "\n".join(words[:6]), va="top", fontsize=8, transform=axes.transAxes)
        for column, (rgb, time) in enumerate(
            chosen_frames(features, config.faces.fps, 240, COLUMNS).values()
        ):
            axes = figure.add_subplot(grid[i, column + 1])
            axes.imshow(rgb)
            axes.set_title(f"{time:.2f} s", fontsize=7, pad=2)
            axes.set_axis_off()
    with atomic_path(path) as temporary:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # names in scripts that the font does not have
            figure.savefig(temporary, format="png")
