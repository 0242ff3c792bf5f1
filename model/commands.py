"""Commands of training and prediction: each reads its words, calls one function and prints the result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from deiii.data.command_line.numbers import seconds, whole_number, whole_numbers
from deiii.data.config.schema_fields import MOST_SEED
from deiii.data.config.words import (
    add_command,
    add_settings,
    read_settings,
    split_words,
    take_overrides,
)
from deiii.data.tools.processes.signals import INTERRUPTED

RESUME = "finished work is kept: add --resume to the same command to continue (with make: ARGS=--resume)"
MOST_RUNS = 1000  # folds, and runs at a time
LONGEST_WINDOW_S = 3600.0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of training and prediction to ``deiii``'s parser."""
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_crossval(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "train",
        _train,
        help="train a network on cached features",
        description="Train DE-III on the feature caches below cache=, and write checkpoints, metrics and "
        "TensorBoard events into the run folder train.run. Test speakers are not read. On "
        "several GPUs, start it with torchrun; loader.batch is then divided among them.",
        examples=[
            "train ravdess base train.run=runs/ravdess",
            "train ravdess base train.run=runs/ravdess --resume",
        ],
        when_stopped=RESUME,
    )
    add_settings(sub)
    sub.add_argument(
        "--resume", action="store_true", help="continue the run in train.run; start it if there is none"
    )
    sub.add_argument("--quiet", action="store_true", help="show no progress bars")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "evaluate",
        _single_process(_evaluate),
        help="score a run on its test speakers",
        description="Score the best checkpoint of a run on its test speakers; write metrics.json, "
        "predictions.csv, figures and report.html into the run folder. The settings are those "
        "stored with the run. A run is scored once, when its training has come to its end.",
        examples=[
            "evaluate runs/latest",
            "evaluate runs/latest cache=/data/cache train.device=cpu",
            "evaluate runs/ravdess --on crema_d corpus.root=/data/CREMA-D",
        ],
        when_stopped="this evaluation was not recorded: run the same command again",
    )
    sub.add_argument("run", metavar="RUN", help="run folder, e.g. runs/latest")
    sub.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="cache=FOLDER, if the caches were moved since training; train.device=DEVICE; with --on also "
        "corpus.KEY=VALUE",
    )
    sub.add_argument(
        "--on",
        metavar="CONFIG",
        help="score the run on another corpus, which the config names and which was preprocessed with the "
        "run's stage settings; results lie in RUN/on-CORPUS",
    )
    twice = sub.add_mutually_exclusive_group()
    twice.add_argument(
        "--again", action="store_true", help="score a run that was scored before, and record that"
    )
    twice.add_argument(
        "--keep", action="store_true", help="if the run was scored before, print that result; else score it"
    )
    sub.add_argument(
        "--unfinished",
        action="store_true",
        help="score a run whose training was interrupted by its best epoch so far, and record that",
    )


def _add_crossval(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "crossval",
        _single_process(_crossval),
        help="train and score every fold with every seed",
        description="Train and score every fold of the split protocol with every seed; write one run folder "
        "for each, crossval.json, crossval.md and confusion.png into train.run. Finished runs "
        "are kept, so the same command continues a stopped cross-validation.",
        examples=["crossval ravdess_audio train.run=runs/ravdess_audio --seeds 0,1,2"],
        when_stopped="finished runs are kept: run the same command again to continue",
    )
    add_settings(sub)
    sub.add_argument(
        "--seeds",
        type=whole_numbers(0, MOST_SEED),
        default=[0],
        metavar="0,1,2",
        help="seeds of the runs (default: 0)",
    )
    sub.add_argument(
        "--folds",
        type=whole_numbers(0, MOST_RUNS),
        metavar="0,1",
        help="test folds (default: all of the protocol)",
    )
    sub.add_argument(
        "--jobs",
        type=whole_number(0, MOST_RUNS),
        default=0,
        metavar="N",
        help="runs at a time (default: 1 on a CPU; on GPUs as many as fit by the memory of the first run)",
    )
    sub.add_argument("--quiet", action="store_true", help="show no progress bars")


def _single_process(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The action, refused under torchrun, where every process would write the same files."""

    def refuse_torchrun(args: argparse.Namespace) -> int:
        from deiii.model.distributed.ranks import RankError, launched

        if launched():
            raise RankError(
                f"`deiii {args.command}` runs in one process; start it without torchrun, which only "
                "`deiii train` supports"
            )
        return action(args)

    return refuse_torchrun


def _add_predict(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "predict",
        _single_process(_predict),
        help="predict the emotion in media files",
        description="Preprocess media files in memory and predict their emotion with a trained network: "
        "probabilities, attributes, the contribution of each input and the quality of the face "
        "track. Prints a table; writes <name>.json for each file and predictions.csv.",
        examples=["predict runs/latest clip.mp4", "predict runs/latest folder/ --overlay overlays/"],
        when_stopped="JSON files of finished media are kept; the same command predicts for all media again",
    )
    sub.add_argument("run", metavar="RUN", help="run folder or exported folder, e.g. runs/latest")
    sub.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="MEDIA|KEY=VALUE",
        help="media files, or folders that hold some; settings of this machine, e.g. train.device=cpu or "
        "faces.weights=/w/face_detection_yunet_2023mar.onnx",
    )
    sub.add_argument("--out", default="predict", help="folder to write (default: %(default)s)")
    sub.add_argument(
        "--overlay", metavar="MP4", help="also draw the prediction over the video; a folder for several files"
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
        help="allow settings that change what a stage computes, although the network was trained without",
    )
    time = seconds(LONGEST_WINDOW_S)
    sub.add_argument("--window", type=time, metavar="S", help="length of the sliding window in s")
    sub.add_argument("--hop", type=time, metavar="S", help="distance between windows in s (default: 0.2)")
    sub.add_argument("--quiet", action="store_true", help="show no progress bars")


def _add_compare(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "compare",
        _single_process(_compare),
        help="compare the scores of several runs",
        description="Compare evaluated runs on the test clips that all of them scored: the scores of each "
        "run and its difference from the first, with 95 % t intervals over "
        "speakers, paired. Writes a table and figures.",
        examples=["compare runs/base runs/changed --out runs/compare"],
        when_stopped="run the same command again",
    )
    sub.add_argument("runs", metavar="RUN", nargs="+", help="run folders; the first is the reference")
    sub.add_argument("--out", default="runs/compare", help="folder to write (default: %(default)s)")


def _add_export(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "export",
        _single_process(_export),
        help="write a trained network as one folder",
        description="Write the weights of a run, its preprocessing, labels, a model card and a torch.export "
        "program into one folder that can be used without the caches.",
        examples=["export runs/latest exported"],
        when_stopped="the exported folder is not complete: run the same command again",
    )
    sub.add_argument("run", metavar="RUN", help="run folder, e.g. runs/latest")
    sub.add_argument("folder", metavar="FOLDER", help="folder to write")
    sub.add_argument("--no-program", action="store_true", help="leave out the torch.export program")


def _train(args: argparse.Namespace) -> int:
    from deiii.model.distributed.ranks import read_environment
    from deiii.model.training.train import train

    config, ranks = read_settings(args.settings), read_environment()
    try:
        best = train(config, resume=args.resume, progress=not args.quiet)
    except KeyboardInterrupt:
        if ranks.first:  # once is enough
            raise
        return INTERRUPTED
    if not ranks.first:
        return 0
    print(f"best epoch {best['epoch']}: validation {best['val_monitor']:.3f}; "
          f"next: deiii evaluate {config.train.run}")  # fmt: skip
    return 0


def _crossval(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.crossval import crossval

    config = read_settings(args.settings)
    result = crossval(config, args.seeds, args.folds, args.jobs, progress=not args.quiet)
    for name, figure in result["figures"].items():
        sd = figure["sd_folds"]
        mean = "undefined" if figure["mean"] is None else f"{figure['mean']:.3f}"
        print(f"{name}: mean {mean} over {result['folds']} folds"
              + (f", sd {sd:.3f}" if sd is not None else ""))  # fmt: skip
    print(f"report: {config.train.run}/crossval.md")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.evaluate import evaluate, summary

    if args.on:
        return _evaluate_on(args)
    given = take_overrides(args.settings, ["cache", "train.device"], "evaluate")
    metrics, report = evaluate(
        args.run, cache=given.get("cache"), device=given.get("train.device"),
        again=args.again, keep=args.keep, unfinished=args.unfinished,
    )  # fmt: skip
    print(summary(metrics))
    print(f"report: {report}")
    return 0


def _evaluate_on(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.other_corpus import evaluate_on, summary

    of_corpus = [word for word in args.settings if word.startswith("corpus.")]
    others = [word for word in args.settings if word not in of_corpus]
    given = take_overrides(others, ["cache", "train.device"], "evaluate --on")
    metrics, folder = evaluate_on(
        args.run, [args.on, *of_corpus], given.get("cache"), given.get("train.device"), again=args.again
    )
    print(summary(metrics))
    print(f"results: {folder}/metrics.json, {folder}/predictions.csv")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from deiii.model.prediction.files import NO_OVERLAY, predict_files
    from deiii.model.training.run_folder import RunError

    if not Path(args.run).is_dir():
        what = "a file" if Path(args.run).exists() else "not there"
        raise RunError(
            f"{args.run} is {what}; the first word names a run folder or an exported folder, the others name "
            "media files: deiii predict RUN clip.mp4"
        )
    media, settings = split_words(args.words)
    device = "auto"
    for word in [word for word in settings if word.startswith("train.device=")]:
        settings.remove(word)
        device = word.partition("=")[2]
    found = predict_files(
        args.run, media, args.out, args.overlay, args.window, args.hop, device, settings,
        progress=not args.quiet, same_speaker=args.same_speaker,
        change_preprocessing=args.change_preprocessing,
    )  # fmt: skip
    print(f"results: {args.out}/predictions.csv, and <name>.json for each file")
    lost = [p.path for p in found if not p.usable]
    if lost:
        print(f"error: no prediction for {len(lost)} of {len(found)} files: {', '.join(lost[:5])}",
              file=sys.stderr)  # fmt: skip
    undrawn = [p.path for p in found if any(note.startswith(NO_OVERLAY) for note in p.notes)]
    if undrawn:
        print(f"error: {NO_OVERLAY} of {', '.join(undrawn[:5])}", file=sys.stderr)
    return 1 if lost or undrawn else 0


def _compare(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.compare import compare

    print(compare(args.runs, args.out))
    return 0


def _export(args: argparse.Namespace) -> int:
    from deiii.model.prediction.export import export

    folder = export(args.run, args.folder, program=not args.no_program)
    print(f"exported to {folder}; how to use it: {folder / 'README.md'}")
    return 0
