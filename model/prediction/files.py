"""The command ``deiii predict``: a table, and for each file JSON and, on request, an overlay video."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from deiii.data.cache.outcomes import ClipError, Outcome, Status, is_machine_trouble
from deiii.data.command_line.notes import print_notes
from deiii.data.corpora.files import Expanded, MediaError, expand_folders, others_note, without_drawn
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.atomic_files import (
    InputFiles,
    atomic_path,
    writable_folder,
    write_json,
    write_text,
)
from deiii.data.tools.os_errors import explain
from deiii.data.tools.processes.malloc import return_freed_memory
from deiii.data.tools.progress import always_shown, progress_bar, say
from deiii.data.tools.text.columns import padded, width_of
from deiii.data.tools.text.printable import printable_name
from deiii.model.prediction.loading import load
from deiii.model.prediction.names import check_video_name, unique_names, without_results
from deiii.model.prediction.output.json_files import replaced_note
from deiii.model.prediction.output.table import origin, update_table
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import Prediction
from deiii.model.prediction.settings import settings_without_effect
from deiii.model.prediction.windows.progress import seconds_bar
from deiii.model.prediction.windows.tables import PICTURE, SEGMENTS, course_texts, segment_lines
from deiii.model.prediction.windows.units import check_window
from deiii.pipeline.extract import load_first
from deiii.pipeline.faces.quality import describe_figures
from deiii.pipeline.media.streaming.address import shown
from deiii.pipeline.stages.first_clips import ends_command
from deiii.pipeline.streaming.voice import VoiceDetector, speech_segments

NO_OVERLAY = "no overlay video"  # begins the note of a file whose overlay could not be drawn
BAR = 24  # characters


@dataclass(frozen=True)
class FileOptions:
    """What to predict and to write for each file.

    Attributes:
        overlay: target of the overlay videos of the files that have video: a path for a single file, or a
            folder (a name without a suffix, or one that ends with a slash); ``None`` for none.
        window_s, hop_s: length and distance of the sliding window in s; see `Predictor.predict`.
        same_speaker: whether all files are of one speaker; a network that normalises by speaker then uses
            the levels of all of them, as evaluation does.
        texts: which of `deiii.model.prediction.windows.tables.TEXTS` to write for each file, too.
        speech: whether to predict for each stretch of speech, and to leave silence out.
        people: whether to predict for each person in a file; see `Predictor.predict_people`.
        picture: whether to draw the course of each prediction, too.
    """

    overlay: str | None = None
    window_s: float | None = None
    hop_s: float | None = None
    same_speaker: bool = False
    texts: Collection[str] = ()
    speech: bool = False
    people: bool = False
    picture: bool = False


DEFAULTS = FileOptions()


def predict_files(
    run: str | Sequence[str],
    media: Sequence[str],
    out: str | Path = "predict",
    options: FileOptions = DEFAULTS,
    device: str = "auto",
    settings: Sequence[str] = (),
    change_preprocessing: bool = False,
    backend: str = "auto",
    calibrated: bool = False,
    progress: bool = True,
) -> list[Prediction]:
    """Predict for files one after the other; writes ``predictions.csv`` and ``<name>.json`` for each.

    Rows of other files stay in an earlier ``predictions.csv`` of the same network, see
    `deiii.model.prediction.output.table.update_table`.

    Args:
        run: a run folder, an exported folder or ``hub:user/name``; several are one ensemble.
        media: files and folders of files.
        out: folder for the results.
        options: what to predict and to write for each file.
        device: a value of ``train.device``.
        settings: ``key=value`` settings for this machine.
        change_preprocessing, backend, calibrated: arguments of `load`.
        progress: whether to show a bar.

    Returns:
        the predictions without arrays and timelines, in the order of the files.

    Raises:
        MediaError: there are no media files.
        ConfigError: the windows or the name of an overlay video are not possible.
        WeightsError: weights of a stage cannot be found or downloaded.
        Others: errors of `load`.
    """
    _named_media(media, options.overlay)  # report a wrong name before the network is loaded
    check_window(options.window_s, options.hop_s)
    if options.overlay is not None or options.picture:
        for package in ("PIL", "matplotlib"):  # without them nothing can be drawn
            importlib.import_module(package)
    writable_folder(out)
    network = load(run, device, settings, change_preprocessing, backend, calibrated)
    print_notes(settings_without_effect(network.config, settings))
    load_first(network.stages, network.config)
    return predict_loaded(network, media, out, options, progress)


def predict_loaded(
    network: Predictor,
    media: Sequence[str],
    out: str | Path = "predict",
    options: FileOptions = DEFAULTS,
    progress: bool = True,
    report: Callable[[str], None] = say,
) -> list[Prediction]:
    """Do `predict_files` with a loaded network; ``report`` receives the text on each file.

    Raises:
        MediaError: there are no media files.
        ConfigError: the name of an overlay video is not possible, or ``options.people`` is on and the network
            reads no faces.
    """
    overlay = options.overlay
    named = _named_media(media, overlay)
    files = [Path(file) for file in named.files]
    if options.people:
        network.require_faces()
    out = writable_folder(out)
    found: list[Prediction] = []
    names = unique_names(files)
    targets = [_overlay_target(overlay, name, len(files)) for name in names] if overlay is not None else []
    read = InputFiles(files if targets else ())
    for target in targets:
        check_video_name(target)
        read.refuse(target)
        writable_folder(target.parent)
    detector = VoiceDetector() if options.speech else None
    levels = network.speaker_levels(files) if options.same_speaker else None
    with progress_bar(files, desc="predicting", unit="file", leave=False, shown=progress) as bar:
        for file, name in zip(bar, names, strict=True):
            bar.set_postfix_str(printable_name(file.name))
            drawn = None if overlay is None else _overlay_target(overlay, name, len(files))
            own = _predict_one(network, file, options, levels, detector, drawn, progress)
            if note := replaced_note(out / f"{name}.json", file):
                always_shown(report)(note)
            write_json(out / f"{name}.json", _tree(own, out, name) if options.people else own[0].tree())
            outputs = network.classes, network.attributes
            course = course_texts(own, *outputs, options.texts, options.speech, options.people)
            for ending, text in course.items():
                write_text(out / f"{name}{ending}", text)
            if options.picture:
                from deiii.model.prediction.overlay.picture import write_picture

                write_picture(own, network.task.ranges, out / f"{name}{PICTURE}")
            bar.clear()
            segments = out / (name + (SEGMENTS if options.speech else ".json"))
            for prediction in own:
                words = describe(prediction, segments)
                (report if prediction.usable else always_shown(report))(words)
            if drawn is not None:
                own = _with_overlay(own, network, drawn, progress, report)
            found += [_light(prediction) for prediction in own]
    for note in (*named.notes, others_note(without_results(named.others, out, files, names))):
        if note:
            report(note)
    made_with = origin(network, speech=options.speech, same_speaker=options.same_speaker)
    update_table(out, found, network, made_with, options.people, report)
    return found


def _overlay_target(overlay: str, name: str, count: int) -> Path:
    """Return where a file's overlay video goes: ``overlay`` itself, or a file in that folder.

    It is a folder for several files, where such a folder exists, and where the word has no suffix or ends
    with a slash.
    """
    is_folder = count > 1 or overlay.endswith(("/", os.sep)) or os.path.isdir(overlay)
    is_folder = is_folder or not Path(overlay).suffix
    return Path(overlay) / f"{name}.mp4" if is_folder else Path(overlay)


def _predict_one(
    network: Predictor,
    file: Path,
    options: FileOptions,
    levels: StageLevels | None,
    detector: VoiceDetector | None,
    overlay: Path | None,
    progress: bool,
) -> list[Prediction]:
    """Return the prediction for a file, or one for each person in it.

    After an unexpected error, the result is one prediction without outputs, whose note states the error.
    """
    keep_flow = None
    if overlay is not None:
        with contextlib.suppress(OSError):  # drawing the video reports errors of its folder
            keep_flow = writable_folder(overlay.parent)
    try:
        with seconds_bar(file, progress) as advance:
            speech = None if detector is None else speech_segments(file, detector, advance.speech)
            window_s, hop_s = options.window_s, options.hop_s
            if options.people:
                return network.predict_people(
                    file, window_s=window_s, hop_s=hop_s, levels=levels, speech=speech, progress=advance,
                    audio_progress=advance.audio, person_progress=advance.person,
                )  # fmt: skip
            found = network.predict(file, window_s, hop_s, levels, speech, keep_flow, advance, advance.audio)
            return [found]
    except Exception as error:  # one unusual file must not end the run; the error is recorded
        if ends_command(error):
            raise
        reason = f"unexpected {type(error).__name__}: {error}; please report it with the file"
        outcomes = {stage: Outcome(Status.FAILED, reason, 0.0) for stage in network.stages}
        return [Prediction(str(file), 0.0, outcomes, notes=(f"no prediction: {reason}",))]


def _with_overlay(
    own: list[Prediction], network: Predictor, target: Path, progress: bool, report: Callable[[str], None]
) -> list[Prediction]:
    """Draw the overlay video; if that fails, report it and return the predictions with a note of it."""
    return_freed_memory()  # the threads that draw and encode cannot reuse the memory of the prediction
    try:
        report(_draw(own, network, target, progress))
    except Exception as error:  # a video that cannot be drawn must not end the run
        if is_machine_trouble(error):
            raise
        note = f"{NO_OVERLAY}: {_explained(error)}"
        always_shown(report)(f"{printable_name(own[0].path)}: {note}")
        return [replace(prediction, notes=(*prediction.notes, note)) for prediction in own]
    return own


def _explained(error: Exception) -> str:
    """Return an error in words: those of the system with file and remedy, others with their type."""
    if isinstance(error, OSError) and error.filename is not None:
        return explain(error)
    return f"{type(error).__name__}: {error}"


def find_media(words: Sequence[str]) -> list[Path]:
    """Return the named files, and the media files in each named folder and below it.

    Raises:
        MediaError: there are none, or a name does not exist or is an address.
    """
    return [Path(file) for file in _named_media(words).files]


def _named_media(words: Sequence[str], overlay: str | None = None) -> Expanded:
    """Do `find_media`, without the videos that an earlier command drew into the folder ``overlay``.

    Returns:
        also notes on what is left out and on links, and the files in named folders that are not media.
    """
    for word in words:
        if not str(word).strip():
            raise MediaError("the name of a media file is empty (is an environment variable not set?)")
        if "://" in word:
            raise MediaError(
                f"{shown(word)} is an address, not a file; predict for a stream with --live, or download the "
                "recording first"
            )
    named = expand_folders(words)
    for path in named.files:
        if not os.path.lexists(path):  # a link to a file that is gone gets an outcome of its own
            raise MediaError(f"{printable_name(path)} does not exist; name media files, or a folder of them")
    if not named.files:
        raise MediaError("name at least one media file or folder: deiii predict RUN clip.mp4")
    return without_drawn(words, named, overlay, "the overlay videos")


def describe(p: Prediction, segments: Path | None = None) -> str:
    """Return a file's prediction as text for the terminal; ``segments`` is the file that lists segments."""
    name = printable_name(p.path)
    lines = [f"{name}  ({p.seconds:.1f} s)"]
    if p.person is not None:
        lines = [f"{name}  person {p.person.number}  ({p.person.seconds:.1f} of {p.seconds:.1f} s)"]
        if p.person.follows_sound is not None:
            lines.append(f"  mouth and audio: correlation {p.person.follows_sound:.2f}")
    width = width_of([*p.probabilities, *p.attributes], least=24)
    for name, value in sorted(p.probabilities.items(), key=lambda item: -item[1]):
        lines.append(f"  {padded(name, width)} {value:6.3f}  {'█' * round(BAR * value)}")
    lines += [f"  {padded(name, width)} {value:+6.2f}" for name, value in p.attributes.items()]
    lines += segment_lines(p, None if segments is None else printable_name(segments))
    for output, shares in p.contributions.items():
        lines.append(f"  contributions to {output}: " + ", ".join(f"{s} {v:+.3f}" for s, v in shares.items()))
    if p.face:
        f = p.face
        gap = f", longest gap {f.longest_gap_s:.1f} s" if f.longest_gap_s else ""
        where = f"in {100 * f.share:.0f} % of {f.frames} video frames, {f.width_px:.0f} px wide"
        lines.append(f"  face track {f.quality}: {where}{gap}")
        if f.figures:
            lines.append(f"  face: {describe_figures(f.figures)}")
    return "\n".join([*lines, *(f"  note: {note}" for note in p.notes)])


def _tree(own: Sequence[Prediction], out: Path, name: str) -> dict[str, Any]:
    """Return the predictions for all people for JSON; writes their thumbnails beside it."""
    trees = []
    for prediction in own:
        tree = prediction.tree()
        person = prediction.person
        if person is not None and person.thumbnail is not None:
            image = f"{name}-person{person.number}.png"
            with atomic_path(out / image) as temporary:
                bgr = cv2.cvtColor(person.thumbnail, cv2.COLOR_RGB2BGR)
                Path(temporary).write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
            tree["person"]["thumbnail"] = image
        trees.append(tree)
    return {"file": own[0].path, "people": trees}


def _draw(own: Sequence[Prediction], network: Predictor, target: Path, progress: bool) -> str:
    from deiii.model.prediction.overlay.video import draw_overlay

    try:
        return f"  overlay: {draw_overlay(own, network, target, progress)}"
    except ClipError as error:
        return f"  no overlay: {error.outcome.reason}"


def _light(prediction: Prediction) -> Prediction:
    """Return the prediction without its large arrays."""
    return replace(prediction, arrays={}, timeline=None)
