"""``python -m model``: train DE-III on cached features and evaluate it.

train      train, choose the epoch on validation speakers, keep checkpoints
evaluate   score a run's best checkpoint on the test speakers and write its report
crossval   every fold with every seed from one cache, and one report; goes on where it stopped
"""

from __future__ import annotations

import argparse
import sys

from data.cli import add_settings, read_settings, run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser(
        "train",
        help="train a network",
        description="Train DE-III on a preprocessed corpus. Settings: `python -m pipeline settings`.",
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
    return run(lambda: args.action(args))


def _train(args: argparse.Namespace) -> int:
    from model.train import train

    config = read_settings(args.settings)
    best = train(config, resume=args.resume, progress=not args.quiet)
    print(f"best epoch {best['epoch']}: validation {best['val_monitor']:.3f}; "
          f"next: python -m model evaluate {config.train.run}")  # fmt: skip
    return 0


def _crossval(args: argparse.Namespace) -> int:
    from model.crossval import crossval

    config = read_settings(args.settings)
    result = crossval(config, args.seeds, args.folds, args.jobs, progress=not args.quiet)
    for name, figure in result["figures"].items():
        sd = figure["sd_folds"]
        print(f"{name}: mean {figure['mean']:.3f} over {result['folds']} folds"
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


if __name__ == "__main__":
    sys.exit(main())
