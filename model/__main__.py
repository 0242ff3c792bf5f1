"""``python -m model``: train DE-III on cached features and evaluate it.

train      train, choose the epoch on validation speakers, keep checkpoints
evaluate   score a run's best checkpoint on the test speakers and write its report
predict    judge media files with a trained network
compare    figures of several runs side by side, with paired intervals
export     a trained network as one folder, with its preprocessing and a model card
crossval   every fold with every seed from one cache, and one report; goes on where it stopped
"""

from __future__ import annotations

import argparse
import sys

from data.cli import add_settings, read_settings, run
from data.signals import INTERRUPTED

RESUME = "add --resume to the same command to go on (with make: in ARGS)"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser(
        "train",
        help="train a network",
        description="Train DE-III on a preprocessed corpus. Settings: `python -m pipeline settings`. "
        "Several GPUs: `torchrun --standalone --nproc-per-node 2 -m model train ...` share loader.batch.",
    )
    add_settings(sub)
    sub.add_argument("--resume", action="store_true", help="go on with the run in train.run where it stopped")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.set_defaults(action=_train)
    sub = commands.add_parser(
        "evaluate",
        help="score a run on its test speakers",
        description="Score a run's best checkpoint on its test speakers; writes metrics.json, "
        "predictions.csv, figures and report.html into the run folder.",
    )
    sub.add_argument("run", help="run folder, e.g. runs/latest")
    sub.add_argument("--cache", help="folder of the feature caches, where it has moved since training")
    sub.add_argument("--device", help="auto, cpu or cuda (default: as in training)")
    sub.set_defaults(action=_evaluate)
    _add_predict(commands)
    _add_compare(commands)
    _add_export(commands)
    sub = commands.add_parser(
        "crossval",
        help="every fold with every seed, one report",
        description="Train and score every fold with every seed; train.run is the folder of all runs and of "
        "crossval.json, crossval.md and confusion.png. Run it again to go on where it stopped.",
    )
    add_settings(sub)
    sub.add_argument("--seeds", type=_numbers, default=[0], metavar="0,1,2", help="default: 0")
    sub.add_argument("--folds", type=_numbers, metavar="0,1", help="default: all of the protocol's")
    sub.add_argument("--jobs", type=int, default=0, help="runs at a time (default: one for each GPU, else 1)")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.set_defaults(action=_crossval)
    args, rest = parser.parse_known_args(argv)
    if args.command in ("train", "crossval") and not any(word.startswith("-") for word in rest):
        args.settings += rest  # settings may also follow an option
    elif rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if args.command != "train":
        action = args.action
        args.action = lambda args: _alone(args.command) or action(args)
    again = {"go_on": RESUME} if args.command == "train" else {}
    return run(lambda: args.action(args), **again)


def _alone(command: str) -> None:
    """Refuse to do the same thing several times over in one place."""
    from model.ranks import RankError, launched

    if launched():
        raise RankError(f"`{command}` is for one process; torchrun is for `train`")


def _add_predict(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "predict",
        help="judge media files with a trained network",
        description="Judge media files: probabilities, attributes, each input's part, quality of the face "
        "track. Prints a table; writes <name>.json for each file and predictions.csv.",
    )
    sub.add_argument("run", help="run folder or exported folder, e.g. runs/latest")
    sub.add_argument("media", nargs="+", help="media files, or folders with some")
    sub.add_argument("--out", default="predict", help="folder for the results (default: %(default)s)")
    sub.add_argument(
        "--overlay", metavar="MP4", help="also draw a video; a folder where there are several files"
    )
    sub.add_argument("--window", type=float, metavar="S", help="length of the sliding window in s")
    sub.add_argument("--hop", type=float, metavar="S", help="distance of windows in s (default: 0.2)")
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    sub.add_argument(
        "--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE",
        help="settings for this machine, e.g. faces.weights=/w/face_detection_yunet_2023mar.onnx",
    )  # fmt: skip
    sub.set_defaults(action=_predict)


def _add_compare(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "compare",
        help="figures of several runs side by side",
        description="Figures of evaluated runs on the test clips that all of them scored, and each run's "
        "difference from the first, with 95 %% intervals over speakers drawn again for all runs alike.",
    )
    sub.add_argument("runs", nargs="+", help="run folders; the first is the one to compare with")
    sub.add_argument("--out", default="runs/compare", help="folder for the files (default: %(default)s)")
    sub.set_defaults(action=_compare)


def _add_export(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "export",
        help="a trained network as one folder",
        description="Write weights, preprocessing, labels, a model card and a torch.export program.",
    )
    sub.add_argument("run", help="run folder, e.g. runs/latest")
    sub.add_argument("folder", help="folder to write")
    sub.add_argument("--no-program", action="store_true", help="leave out the torch.export program")
    sub.set_defaults(action=_export)


def _train(args: argparse.Namespace) -> int:
    from model.ranks import read_environment
    from model.train import train

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
          f"next: python -m model evaluate {config.train.run}")  # fmt: skip
    return 0


def _crossval(args: argparse.Namespace) -> int:
    from model.crossval import crossval

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
    from model.evaluate import evaluate, summary

    metrics, report = evaluate(args.run, cache=args.cache, device=args.device)
    print(summary(metrics))
    print(f"report: {report}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from model.predict import predict_files

    found = predict_files(
        args.run, args.media, args.out, args.overlay, args.window, args.hop, args.device, args.settings,
        progress=not args.quiet,
    )  # fmt: skip
    print(f"results: {args.out}/predictions.csv, and <name>.json for each file")
    lost = [p.path for p in found if not p.usable]
    if lost:
        print(f"error: nothing to judge in {len(lost)} of {len(found)} files: {', '.join(lost[:5])}",
              file=sys.stderr)  # fmt: skip
    return 1 if lost else 0


def _compare(args: argparse.Namespace) -> int:
    from model.compare import compare

    print(compare(args.runs, args.out))
    return 0


def _export(args: argparse.Namespace) -> int:
    from model.export import export

    folder = export(args.run, args.folder, program=not args.no_program)
    print(f"exported to {folder}; how to use it: {folder / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
