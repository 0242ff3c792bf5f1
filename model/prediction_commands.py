"""Commands that use trained networks: predict, compare and export. Prediction needs no PyTorch."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from deiii.data.command_line.numbers import seconds
from deiii.data.config.checks.rules import ENCODERS
from deiii.data.config.words import add_command, set_read_settings, split_words
from deiii.data.tools.counts import counted, examples, listed
from deiii.data.tools.progress import say
from deiii.model.distributed.launch import single_process

LONGEST_WINDOW_S = 3600.0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of prediction, comparison and export to ``deiii``'s parser."""
    _add_predict(commands)
    _add_compare(commands)
    _add_export(commands)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "predict",
        single_process(_predict),
        help="predict the emotion in media files",
        description="Preprocess media files in memory and predict their emotion with a trained network: "
        "probabilities, attributes, the contribution of each input and the quality of the face "
        "track. Print a table; write <name>.json for each file, and predictions.csv.",
        examples=[
            "predict runs/latest clip.mp4",
            "predict runs/latest folder/ --overlay overlays/",
            "predict runs/a runs/b clip.mp4  # the mean of two networks",
            "predict runs/latest talk.mp4 --people all",
        ],
        when_stopped="JSON files of finished media are kept; the same command predicts for all media again",
    )
    sub.add_argument(
        "run", metavar="RUN", help="run folder, exported folder or hub:user/name, e.g. runs/latest"
    )
    sub.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="MEDIA|KEY=VALUE",
        help="more runs, to predict with the mean of all; media files, or folders of media files; "
        "settings of this machine, e.g. train.device=cpu or "
        "faces.weights=/w/face_detection_yunet_2023mar.onnx",
    )
    set_read_settings(sub, ["faces", "flow", "logmel", *ENCODERS, "train.device"])
    sub.add_argument("--out", default="predict", help="folder to write (default: %(default)s)")
    sub.add_argument(
        "--overlay",
        metavar="MP4",
        help="also write a video with the prediction drawn over it; name a folder if there are several "
        "files (for one file, a folder that exists, or a name without a suffix); with --live the video "
        "has no audio",
    )
    sub.add_argument(
        "--same-speaker",
        action="store_true",
        help="all files are of one speaker: a network trained with loader.normalise=speaker then uses the "
        "levels of all of them, as evaluation does",
    )
    sub.add_argument(
        "--change-preprocessing",
        action="store_true",
        help="allow settings that change what a stage computes; the network was trained without them",
    )
    sub.add_argument(
        "--calibrated",
        action="store_true",
        help="use the temperature that evaluation fitted on validation speakers; without it, "
        "probabilities are those of the evaluation",
    )
    _add_time_options(sub)


def _add_time_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of `deiii predict` that concern windows, live sources, people and files over time."""
    time = seconds(LONGEST_WINDOW_S)
    sub.add_argument(
        "--window",
        type=time,
        metavar="S",
        help="length of the sliding window in s (default: that of the median training clip)",
    )
    sub.add_argument(
        "--hop",
        type=time,
        metavar="S",
        help="distance between windows in s (default: 0.2; in recordings of more than 4000 s the distance "
        "that gives 20000 windows, e.g. 0.36 for two hours; with --live 0.5)",
    )
    sub.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what runs the network: PyTorch, or onnxruntime with the model.onnx of an exported folder; auto "
        "uses PyTorch if it is installed (default: %(default)s)",
    )
    sub.add_argument(
        "--live",
        action=_Live,
        metavar="SOURCE",
        help="predict twice a second from a camera (its number, e.g. 0), a network stream (rtsp://, http://) "
        "or a file played in real time, until Ctrl-C; writes live.jsonl",
    )
    sub.add_argument(
        "--segments",
        choices=("speech",),
        help="predict for each segment of speech (found by silero-vad) and leave silence out; writes a table "
        "<name>-segments.csv",
    )
    sub.add_argument(
        "--people",
        choices=("one", "all"),
        default="one",
        help="predict for the person whom faces.pick chooses, or for each person in the video, numbered in "
        "the order in which they appear (default: %(default)s)",
    )
    sub.add_argument("--vtt", action="store_true", help="also write subtitles <name>.vtt (WebVTT)")
    sub.add_argument(
        "--timeline",
        action="store_true",
        help="also write <name>-timeline.csv, a table of all outputs over time for spreadsheets, and "
        "<name>.tsv, a table of begin, end and label that ELAN imports",
    )
    sub.add_argument(
        "--picture",
        action="store_true",
        help="also write <name>-timeline.png, a picture of all outputs over time",
    )


class _Live(argparse.Action):
    """The option ``--live``: Ctrl-C keeps other files then than it does for a prediction of files."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Set the source, and what to print after Ctrl-C."""
        namespace.live = values
        namespace.when_stopped = "predictions that were printed are kept in live.jsonl"


def _add_compare(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "compare",
        single_process(_compare),
        help="compare the scores of several runs or cross-validations",
        description="Compare evaluated runs on the test clips that all of them scored. Print the scores of "
        "each run and its paired difference from the first run, with 95 % t intervals over speakers. "
        "Folders of finished cross-validations with the same folds are compared over folds, seeds and "
        "speakers. p-values of several comparisons are corrected (Holm). "
        "Write a table (CSV and LaTeX) and a figure.",
        examples=[
            "compare runs/base runs/changed --out runs/compare",
            "compare runs/crossval-a runs/crossval-b runs/crossval-c",
        ],
        when_stopped="run the same command again",
    )
    sub.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run folders, or folders of cross-validations; differences are from the first one",
    )
    sub.add_argument("--out", default="runs/compare", help="folder to write (default: %(default)s)")


def _add_export(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "export",
        single_process(_export),
        help="write a trained network as one folder",
        description="Write the weights of a run, its preprocessing, labels, a model card and a torch.export "
        "program into one folder that can be used without the caches. With --onnx the folder can "
        "also be used without PyTorch. If RUN is an exported folder, it is copied without changes.",
        examples=[
            "export runs/latest exported",
            "export runs/latest exported --onnx",
            "export runs/a runs/b exported  # an ensemble",
        ],
        when_stopped="the export is not complete: run the same command again",
    )
    sub.add_argument(
        "members", metavar="RUN", nargs="+", help="run folder, e.g. runs/latest; several are one ensemble"
    )
    sub.add_argument("folder", metavar="FOLDER", help="folder to write")
    sub.add_argument("--no-program", action="store_true", help="leave out the torch.export program")
    sub.add_argument(
        "--onnx",
        action="store_true",
        help="also write model.onnx for onnxruntime; needs pip install 'deiii[onnx]'",
    )
    sub.add_argument(
        "--licence",
        metavar="TEXT",
        help="licence of the corpus, for the model card (default: that of RAVDESS, CREMA-D or MSP-IMPROV; "
        "not stated for other corpora)",
    )


def _predict(args: argparse.Namespace) -> int:
    from deiii.model.file_names import near_network
    from deiii.model.members import names_network
    from deiii.model.prediction.files import NO_OVERLAY, FileOptions, predict_files
    from deiii.model.prediction.hub import PREFIX
    from deiii.model.prediction.manifest import ExportError
    from deiii.model.prediction.windows.tables import PICTURE, endings

    if not args.run.startswith(PREFIX) and not Path(args.run).is_dir() and not names_network(args.run):
        what = "a file" if Path(args.run).exists() else f"not there{near_network(args.run)}"
        end = "" if what.endswith("?") else ";"
        raise ExportError(
            f"{args.run} is {what}{end} the first word names a run folder or an exported folder, the others "
            "name media files: deiii predict RUN clip.mp4"
        )
    words = [word for word in args.words if word.startswith(PREFIX) or names_network(word)]
    runs = [args.run, *words]
    media, settings = split_words([word for word in args.words if word not in words])
    device = "auto"
    for word in [word for word in settings if word.startswith("train.device=")]:
        settings.remove(word)
        device = word.partition("=")[2]
    if args.live is not None:
        from deiii.model.prediction.live.show import predict_live

        if media:
            raise ExportError(f"--live takes no media files beside its source; leave {', '.join(media)} out")
        if args.people != "one":
            raise ExportError("--live predicts for one person; leave --people out")
        of_files = {
            "--segments": args.segments, "--vtt": args.vtt, "--timeline": args.timeline,
            "--picture": args.picture, "--same-speaker": args.same_speaker,
        }  # fmt: skip
        given = [option for option, value in of_files.items() if value]
        if given:
            raise ExportError(
                f"--live writes one line per prediction into live.jsonl; leave {' and '.join(given)} out, or "
                f"predict for a file: deiii predict {shlex.join(runs)} clip.mp4"
            )
        predict_live(
            runs, args.live, args.out, args.window, args.hop,
            device=device, overrides=settings, calibrated=args.calibrated, backend=args.backend,
            change_preprocessing=args.change_preprocessing, overlay=args.overlay,
        )  # fmt: skip
        return 0
    texts = ["vtt"] * args.vtt + ["tsv"] * args.timeline
    options = FileOptions(
        args.overlay, args.window, args.hop, same_speaker=args.same_speaker, texts=texts,
        speech=args.segments == "speech", people=args.people == "all", picture=args.picture,
    )  # fmt: skip
    found = predict_files(
        runs, media, args.out, options, device, settings, args.change_preprocessing, args.backend,
        args.calibrated, progress=not args.quiet,
    )  # fmt: skip
    drawn = [PICTURE] * args.picture
    written = listed(
        [f"<name>{ending}" for ending in [".json", *endings(texts, options.speech, options.people), *drawn]]
    )
    print(f"results: {args.out}/predictions.csv, and {written} for each file")
    files = list(dict.fromkeys(p.path for p in found))
    lost = [path for path in files if not any(p.usable for p in found if p.path == path)]
    if lost:
        print(f"error: no prediction for {len(lost)} of {counted(len(files), 'file')}: {examples(lost, 5)}",
              file=sys.stderr)  # fmt: skip
    undrawn = list(
        dict.fromkeys(p.path for p in found if any(note.startswith(NO_OVERLAY) for note in p.notes))
    )
    if undrawn:
        print(f"error: {NO_OVERLAY} of {examples(undrawn, 5)}", file=sys.stderr)
    return 1 if lost or undrawn else 0


def _compare(args: argparse.Namespace) -> int:
    from deiii.model.file_names import CROSSVAL
    from deiii.model.training.run_folder import RunFolder

    if not any((Path(run) / CROSSVAL).is_file() for run in args.runs):
        for run in args.runs:  # missing files are reported before PyTorch is loaded
            RunFolder(run).read_info(whole=True)

    from deiii.model.evaluation.compare import compare
    from deiii.model.evaluation.compare_crossval import compare_crossvals, is_crossval

    crossed = any(map(is_crossval, args.runs))
    found = compare_crossvals(args.runs, args.out) if crossed else compare(args.runs, args.out)
    *table, paths = found.splitlines()
    say("\n".join(table))
    print(paths)
    return 0


def _export(args: argparse.Namespace) -> int:
    from deiii.model.file_names import EXPORT
    from deiii.model.members import find_members
    from deiii.model.training.run_folder import RunFolder

    members = find_members(args.members)
    for member in members:  # missing files are reported before PyTorch is loaded
        if not (member / EXPORT).is_file():
            RunFolder(member).read_info(whole=True)

    from deiii.model.prediction.ensemble.folder import export_ensemble
    from deiii.model.prediction.export import export
    from deiii.model.prediction.manifest import copy_export

    options = (args.folder, not args.no_program, args.onnx, args.licence, True)
    if len(members) > 1:
        folder = export_ensemble(args.members, *options)
    elif (members[0] / EXPORT).is_file():
        folder = copy_export(members[0], Path(args.folder), args.onnx, args.licence)
    else:
        folder = export(members[0], *options)  # the name may be that of a folder with one run
    print(f"exported to {folder}; how to use it: {folder / 'README.md'}")
    return 0
