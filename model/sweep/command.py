"""The command ``deiii sweep``."""

from __future__ import annotations

import argparse
import shlex

from deiii.data.command_line.notes import note_configs, print_notes
from deiii.data.command_line.numbers import whole_number
from deiii.data.config.words import add_command, add_settings, is_config, read_settings
from deiii.data.tools.progress import say
from deiii.model.distributed.launch import single_process
from deiii.model.run_arguments import add_jobs, add_seeds, refuse_repeated


def add_sweep(commands: argparse._SubParsersAction) -> None:
    """Add the command to ``deiii``'s parser."""
    sub = add_command(
        commands,
        "sweep",
        single_process(_sweep),
        help="try settings and rank them by their validation scores",
        description="Train with many settings and seeds and rank them by their mean validation score; test "
        "speakers are not read. KEY=[a,b] tries each value; 'KEY=log(a,b)', 'KEY=uniform(a,b)' and "
        "'KEY=int(a,b)' draw values from a range. Ranges need Optuna: pip install 'deiii[sweep]'. Put such "
        "words into quotes, because shells interpret parentheses, and some shells brackets. Without a "
        "range, all combinations are tried. The command writes a folder for each run, sweep.md, sweep.png "
        "and best.yaml into train.run. With scheduler=, the runs are trained on Dask workers.",
        examples=[
            "sweep ravdess_audio 'train.lr=[1e-3,2e-3]' 'model.width=[32,64]' train.run=runs/sweep",
            "sweep ravdess_audio 'train.lr=log(1e-4,1e-2)' train.run=runs/lr --trials 30",
        ],
        when_stopped="finished runs are kept: run the same command again to continue",
    )
    add_settings(sub)
    add_seeds(sub, "the runs of each combination")
    sub.add_argument(
        "--trials",
        type=whole_number(1, 100_000),
        default=20,
        metavar="N",
        help="number of combinations to try if there is a range (default: 20)",
    )
    add_jobs(sub)


def _sweep(args: argparse.Namespace) -> int:
    from deiii.model.sweep.space import notes_without_effect, require_axes, split_space

    axes, words = split_space(args.settings)
    base = read_settings(words)
    require_axes(axes)
    refuse_repeated("seeds", args.seeds)
    note_configs(base, words)
    print_notes(notes_without_effect(axes, words))

    from deiii.model.sweep.sweep import sweep

    best, folder = sweep(words, axes, args.seeds, args.trials, args.jobs, not args.quiet)
    print(f"table: {folder}/sweep.md")
    if best is None:
        print("every combination failed; the table gives the reasons")
        return 1
    # Settings win over configs, so one that was given besides its values would win over the best value.
    other = {"train.run", *(axis.key for axis in axes)}
    kept = [word for word in words if is_config(word) or word.partition("=")[0] not in other]
    say((folder / "best.yaml").read_text(encoding="utf-8"), end="")
    say(f"next: {shlex.join(['deiii', 'train', *kept, f'{folder}/best.yaml', 'train.run=runs/best'])}")
    return 0
