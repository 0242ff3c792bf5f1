"""Commands of training: each reads its words, calls one function and prints what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from deiii.data.config.words import add_settings, read_settings, split_words, take_overrides
from deiii.data.tools.signals import INTERRUPTED

RESUME = "add --resume to the same command to go on (with make: in ARGS)"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of training and prediction to ``deiii``'s parser."""
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_crossval(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "train",
        help="train a network on cached features",
        description="Train DE-III on a preprocessed corpus. `deiii settings` lists all settings. "
        "Several GPUs: `torchrun --standalone --nproc-per-node 2 -m deiii train ...` share loader.batch.",
    )
    add_settings(sub)
    sub.add_argument("--resume", action="store_true", help="go on with the run in train.run where it stopped")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.set_defaults(action=_train, go_on=RESUME)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "evaluate",
        help="score a run on its test speakers",
        description="Score a run's best checkpoint on its test speakers; writes metrics.json, "
        "predictions.csv, figures and report.html into the run folder.",
    )
    sub.add_argument("run", help="run folder, e.g. runs/latest")
    sub.add_argument(
        "settings", nargs="*", default=[], metavar="cache=FOLDER|train.device=DEVICE",
        help="where the caches are, if they moved since training; the device, if it is another",
    )  # fmt: skip
    sub.set_defaults(action=_single_process(_evaluate))


def _add_crossval(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "crossval",
        help="train and score every fold with every seed, one report",
        description="Train and score every fold with every seed; train.run is the folder of all runs and of "
        "crossval.json, crossval.md and confusion.png. Run it again to go on where it stopped.",
    )
    add_settings(sub)
    sub.add_argument("--seeds", type=_numbers, default=[0], metavar="0,1,2", help="default: 0")
    sub.add_argument("--folds", type=_numbers, metavar="0,1", help="default: all of the protocol's")
    sub.add_argument("--jobs", type=int, default=0, help="runs at a time (default: one for each GPU, else 1)")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.set_defaults(action=_single_process(_crossval))


def _single_process(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The action, refused under torchrun, where every process would do the same in one place."""

    def refusing(args: argparse.Namespace) -> int:
        from deiii.model.distributed.ranks import RankError, launched

        if launched():
            raise RankError(f"`{args.command}` is for one process; torchrun is for `train`")
        return action(args)

    return refusing


def _add_predict(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "predict",
        help="predict the emotion in media files",
        description="Predict the emotion in media files: probabilities, attributes, each input's "
        "contribution, quality of the face track. Prints a table; writes <name>.json for each file and "
        "predictions.csv.",
    )
    sub.add_argument("run", help="run folder or exported folder, e.g. runs/latest")
    sub.add_argument(
        "words", nargs="+", metavar="MEDIA|KEY=VALUE",
        help="media files, or folders with some; settings for this machine, e.g. "
        "faces.weights=/w/face_detection_yunet_2023mar.onnx or train.device=cpu",
    )  # fmt: skip
    sub.add_argument("--out", default="predict", help="folder for the results (default: %(default)s)")
    sub.add_argument(
        "--overlay", metavar="MP4", help="also draw a video; a folder where there are several files"
    )
    sub.add_argument("--window", type=float, metavar="S", help="length of the sliding window in s")
    sub.add_argument("--hop", type=float, metavar="S", help="distance of windows in s (default: 0.2)")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.set_defaults(action=_single_process(_predict))


def _add_compare(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "compare",
        help="figures of several runs side by side",
        description="Figures of evaluated runs on the test clips that all of them scored, and each run's "
        "difference from the first, with 95 %% intervals over speakers drawn again for all runs alike.",
    )
    sub.add_argument("runs", nargs="+", help="run folders; the first is the one to compare with")
    sub.add_argument("--out", default="runs/compare", help="folder for the files (default: %(default)s)")
    sub.set_defaults(action=_single_process(_compare))


def _add_export(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "export",
        help="a trained network as one folder",
        description="Write weights, preprocessing, labels, a model card and a torch.export program.",
    )
    sub.add_argument("run", help="run folder, e.g. runs/latest")
    sub.add_argument("folder", help="folder to write")
    sub.add_argument("--no-program", action="store_true", help="leave out the torch.export program")
    sub.set_defaults(action=_single_process(_export))


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


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _evaluate(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.evaluate import evaluate, summary

    given = take_overrides(args.settings, ["cache", "train.device"], "evaluate")
    metrics, report = evaluate(args.run, cache=given.get("cache"), device=given.get("train.device"))
    print(summary(metrics))
    print(f"report: {report}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from deiii.model.prediction.files import predict_files

    media, settings = split_words(args.words)
    device = "auto"
    for word in [word for word in settings if word.startswith("train.device=")]:
        settings.remove(word)
        device = word.partition("=")[2]
    found = predict_files(
        args.run, media, args.out, args.overlay, args.window, args.hop, device, settings,
        progress=not args.quiet,
    )  # fmt: skip
    print(f"results: {args.out}/predictions.csv, and <name>.json for each file")
    lost = [p.path for p in found if not p.usable]
    if lost:
        print(f"error: nothing to judge in {len(lost)} of {len(found)} files: {', '.join(lost[:5])}",
              file=sys.stderr)  # fmt: skip
    return 1 if lost else 0


def _compare(args: argparse.Namespace) -> int:
    from deiii.model.evaluation.compare import compare

    print(compare(args.runs, args.out))
    return 0


def _export(args: argparse.Namespace) -> int:
    from deiii.model.prediction.export import export

    folder = export(args.run, args.folder, program=not args.no_program)
    print(f"exported to {folder}; how to use it: {folder / 'README.md'}")
    return 0
