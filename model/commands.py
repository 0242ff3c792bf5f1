"""Commands of training and evaluation: each reads its words, calls one function and prints the result."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from deiii.data.command_line.notes import note_configs, note_without_effect
from deiii.data.command_line.numbers import whole_numbers
from deiii.data.config.checks.effects import TRAINING
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import (
    add_command,
    add_settings,
    read_settings,
    set_read_settings,
    take_overrides,
)
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.processes.signals import INTERRUPTED
from deiii.data.tools.progress import say
from deiii.data.tools.text.figure_text import bracketed, number
from deiii.model.distributed.launch import single_process
from deiii.model.prediction_commands import add_commands as add_prediction_commands
from deiii.model.run_arguments import MOST_RUNS, add_jobs, add_seeds, refuse_repeated
from deiii.model.sweep.command import add_sweep

RESUME = "finished work is kept: add --resume to the same command to continue (with make: ARGS=--resume)"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of training and prediction to ``deiii``'s parser."""
    _add_train(commands)
    _add_evaluate(commands)
    add_prediction_commands(commands)
    _add_crossval(commands)
    add_sweep(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "train",
        _train,
        help="train a network on cached features",
        description="Train a network (DE-III, or the one that model.name names) on the feature caches in the "
        "folder cache=. Write checkpoints, metrics and TensorBoard events into the run folder train.run. "
        "The clips of test speakers are not read. To train on several GPUs, start the command with "
        "torchrun; loader.batch is then divided among them.",
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


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "evaluate",
        single_process(_evaluate),
        help="score a run, or several as one ensemble, on test speakers",
        description="Score the best checkpoint of a run on its test speakers; write metrics.json, "
        "predictions.csv, figures and report.html into the run folder. The settings are those "
        "stored with the run. A run is scored once, after its training is finished. Several runs "
        "of one split are scored as one ensemble, the mean of their probabilities.",
        examples=[
            "evaluate runs/latest",
            "evaluate runs/cv/fold0-seed0 runs/cv/fold0-seed1 --out runs/both",
            "evaluate runs/cv/fold0",
            "evaluate runs/latest cache=/data/cache train.device=cpu",
            "evaluate runs/ravdess --on crema_d corpus.root=/data/CREMA-D",
            "evaluate runs/latest --corrupt noise=20 noise=10 noise=0 blur=2 occlude=0.3 compress=40",
        ],
        when_stopped="this evaluation was not recorded: run the same command again",
    )
    sub.add_argument(
        "run", metavar="RUN", help="run folder, e.g. runs/latest, or a folder that holds several runs"
    )
    sub.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="RUN|KEY=VALUE",
        help="more runs, to score all of them as one ensemble; cache=FOLDER, if the caches were moved "
        "after the training; train.device=DEVICE; with --on also "
        "corpus.KEY=VALUE",
    )
    set_read_settings(sub, ["cache", "train.device", "corpus"])
    sub.add_argument(
        "--on",
        metavar="CONFIG",
        help="score the run on another corpus, which the config names and which was preprocessed with the "
        "run's stage settings; all clips of this corpus with a class or attribute of the run are scored, "
        "except those of speakers in the run's training or validation part; the streams in the run's "
        "split.hide are hidden; results are written to RUN/on-CORPUS",
    )
    sub.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder for the results of an ensemble (default: RUN-ensemble if one RUN names all members, "
        "else runs/ensemble)",
    )
    sub.add_argument(
        "--corrupt",
        metavar="KIND=NUMBER",
        nargs="+",
        action="extend",
        help="score the run on corrupted test recordings: noise=DB (signal-to-noise ratio), blur=PERCENT and "
        "occlude=SHARE (of the face), compress=CRF (H.264), speed=FACTOR (tempo and pitch); results are "
        "written to RUN/robustness",
    )
    twice = sub.add_mutually_exclusive_group()
    twice.add_argument(
        "--again", action="store_true", help="score a run that was scored before, and record that"
    )
    twice.add_argument(
        "--keep", action="store_true", help="print the result if the run was scored before; else score it"
    )
    sub.add_argument(
        "--unfinished",
        action="store_true",
        help="score the best epoch so far of a run whose training was interrupted, and record that",
    )


def _add_crossval(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "crossval",
        single_process(_crossval),
        help="train and score every fold with every seed",
        description="Train and score every fold of the split protocol with every seed; write one run folder "
        "for each, crossval.json, crossval.md and confusion.png into train.run. Finished runs "
        "are kept, so the same command continues a stopped cross-validation.",
        examples=["crossval ravdess_audio train.run=runs/ravdess_audio --seeds 0,1,2"],
        when_stopped="finished runs are kept: run the same command again to continue",
    )
    add_settings(sub)
    add_seeds(sub, "the runs")
    sub.add_argument(
        "--folds",
        type=whole_numbers(0, MOST_RUNS),
        metavar="0,1",
        help="test folds (default: all of the protocol)",
    )
    add_jobs(sub)


def _train(args: argparse.Namespace) -> int:
    config = read_settings(args.settings)  # errors in them are reported before PyTorch is loaded

    from deiii.model.distributed.ranks import read_environment
    from deiii.model.training.monitor import describe_monitored
    from deiii.model.training.run_folder import RunFolder
    from deiii.model.training.train import train

    ranks = read_environment()
    if ranks.first:
        note_configs(config, args.settings)
        note_without_effect(config, args.settings, TRAINING)
    try:
        best = train(config, resume=args.resume, progress=not args.quiet)
    except KeyboardInterrupt:
        if ranks.first:  # one process reports the interruption for all
            raise
        return INTERRUPTED
    if not ranks.first:
        return 0
    which = "last" if config.train.monitor == "last" else "best"
    figure = describe_monitored(best, config.train.monitor)
    tested = RunFolder(config.train.run).read_split().test
    run = shlex.quote(config.train.run)
    step = f"deiii evaluate {run}" if tested else f"deiii predict {run} FILE"
    print(f"{which} epoch {best['epoch']}: {figure}; next: {step}")
    return 0


def _crossval(args: argparse.Namespace) -> int:
    config = read_settings(args.settings)
    refuse_repeated("seeds", args.seeds)
    if args.folds is not None:
        refuse_repeated("folds", args.folds)

    from deiii.model.evaluation.crossval import crossval, left_out
    from deiii.model.intervals import kind_of_interval
    from deiii.model.metrics import figure_names, guessing

    note_configs(config, args.settings)
    note_without_effect(config, args.settings, TRAINING)
    result = crossval(config, args.seeds, args.folds, args.jobs, progress=not args.quiet)
    folds = counted(result["folds"], "fold")
    if "of_folds" in result:
        folds = f"{result['folds']} of {counted(result['of_folds'], 'fold')}"
    for key, name in figure_names(result["figures"]).items():
        figure = result["figures"][key]
        sd = figure["sd_folds"]
        mean = "undefined" if figure["mean"] is None else number(figure["mean"])
        line = f"{name}: mean {mean} over {folds}"
        line += f", sd {sd:.3f}" if sd is not None else ""
        line += f" (guessing: {guessing(result['classes']):.3f})" if key == "uar" else ""
        ci = result["pooled"].get(f"{key}_ci")
        say(line + (f"; all clips together {number(result['pooled'][key])} {bracketed(ci)}" if ci else ""))
    if any(result["pooled"].get(f"{key}_ci") for key in result["figures"]):
        say(f"in brackets: 95 % {kind_of_interval(result)}")
    if untested := result.get("untested"):
        say(f"{counted(untested, 'speaker was', 'speakers were')} not tested: the figures are of {folds}")
    if others := left_out(config.train.run, result):
        number_of = counted(len(others), "finished run")
        print(
            f"note: {config.train.run} has {number_of} that this report does not cover ({examples(others)}); "
            "to report all together, repeat the command with all of their seeds and without --folds",
            file=sys.stderr,
        )
    print(f"report: {config.train.run}/crossval.md")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from deiii.model.intervals import FEWEST
    from deiii.model.members import find_members, names_network
    from deiii.model.training.run_folder import RunFolder

    runs = [args.run, *(word for word in args.settings if names_network(word))]
    args.settings = [word for word in args.settings if word not in runs[1:]]
    for word in args.settings:
        if "=" not in word:
            RunFolder(word).read_info()  # raises the error for a missing run
    members = find_members(runs)
    several = len(members) > 1
    for member in members:
        RunFolder(member).read_info()
    if not several:
        args.run = str(members[0])  # the name may be that of a folder with one run
    if args.on and (args.keep or several):
        raise ConfigError(
            "--on takes one run" if several else
            "--keep is not for --on; RUN/on-CORPUS/metrics.json contains the earlier result"
        )  # fmt: skip
    if args.out and not several:
        raise ConfigError(f"--out is for an ensemble; the results of one run are in its folder {args.run}")
    if args.corrupt:
        if args.on or args.keep or args.unfinished or several:
            raise ConfigError("--corrupt takes one evaluated run, without --on, --keep and --unfinished")
        return _evaluate_corrupted(args)
    if args.on:
        return _evaluate_on(args)
    given = take_overrides(args.settings, ["cache", "train.device"], "evaluate")
    cache, device = given.get("cache"), given.get("train.device")

    from deiii.model.evaluation.results import summary

    options = {
        "again": args.again,
        "keep": args.keep,
        "unfinished": args.unfinished,
        "progress": not args.quiet,
    }
    if several:
        from deiii.model.evaluation.ensemble import evaluate_ensemble, folder_of

        out = args.out or folder_of(runs)
        metrics, report = evaluate_ensemble(runs, out, cache, device, **options)
    else:
        from deiii.model.evaluation.evaluate import evaluate

        metrics, report = evaluate(args.run, cache, device, **options)
    say(summary(metrics))
    if not several and len(metrics["test"]["per_speaker"]) < FEWEST:
        run = Path(args.run)
        words = shlex.join([str(run / "config.yaml"), f"train.run={run}-crossval"])
        say(f"these few speakers may not represent others; `deiii crossval {words}` scores every fold")
    print(f"report: {report}")
    return 0


def _evaluate_corrupted(args: argparse.Namespace) -> int:
    # argparse gives --corrupt every word up to the next option; settings may be among these words.
    among = [word for word in args.corrupt if word.startswith(("cache=", "train."))]
    words = [word for word in args.corrupt if word not in among]
    given = take_overrides([*args.settings, *among], ["cache", "train.device"], "evaluate --corrupt")

    from deiii.model.robustness.corrupted import evaluate_corrupted
    from deiii.model.robustness.report import summary

    found, folder = evaluate_corrupted(
        args.run, words, given.get("cache"), given.get("train.device"), again=args.again
    )
    say(summary(found))
    print(f"results: {folder}/robustness.json, {folder}/robustness.csv, {folder}/robustness.png")
    return 0


def _evaluate_on(args: argparse.Namespace) -> int:
    of_corpus = [word for word in args.settings if word.startswith("corpus.")]
    others = [word for word in args.settings if word not in of_corpus]
    given = take_overrides(others, ["cache", "train.device"], "evaluate --on")
    read_settings([args.on, *of_corpus])  # errors in them are reported before PyTorch is loaded

    from deiii.model.evaluation.other_corpus import evaluate_on, summary

    metrics, folder = evaluate_on(
        args.run, [args.on, *of_corpus], given.get("cache"), given.get("train.device"),
        again=args.again, unfinished=args.unfinished,
    )  # fmt: skip
    say(summary(metrics))
    print(f"results: {folder}/metrics.json, {folder}/predictions.csv")
    return 0
