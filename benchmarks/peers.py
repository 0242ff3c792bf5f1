"""Compare DE-III and its peers with one recipe: every fold and seed, paired intervals, parameters.

Every network (docs/peers.md) is an ordinary ``deiii crossval`` of the given settings with another
``model.name``: the same caches, splits, batches, augmentation, losses, number of epochs and choice of the
epoch on validation speakers. Nothing is tuned for one of them. Test speakers are scored once. Finished runs
are kept: run the command again to continue.

UAR and WAR are over the clips of all folds, the mean over seeds. Intervals are 95 % t intervals over seeds
and speakers, of a difference paired by seed and clip (`deiii.model.intervals`); p-values are corrected for
the number of all differences in the table (Holm). With ``--match``, each peer is also trained at the width at
which it has about as many parameters as DE-III.

With ``--ablations``, DE-III without one of its parts (the changes of `benchmarks.ablation_tasks.PARTS`) has
rows, too; they can also be named one by one, as in ``--only late,deiii-no-ife``. An ablation of a part that
the network of these settings does not have is left out, and a line reports it.

VAVL is trained twice: as its paper describes it, and with ``model.batch_axis=true`` as its published code
runs. The latter's predictions depend on which clips share a batch, so it is also scored one clip at a time.
If both were trained, their difference in UAR has a row: the effect of the batch axis.

    python -m benchmarks.peers configs/ravdess_audio.yaml corpus.root=/data/ravdess --seeds 0,1
    python -m benchmarks.peers configs/synthetic.yaml configs/tiny.yaml --only late,mbt --folds 0 --match
    python -m benchmarks.peers --task binding --folds 0 --match

With ``--task``, the clips are those of a task of the synthetic corpus and the settings are those of the
ablation (`benchmarks.ablation_tasks`); the clips are made and preprocessed first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation_tasks import FILES, SETTINGS
from benchmarks.peers_table import PRICE, collect, write_tables
from benchmarks.peers_variants import ABLATIONS, BATCH_AXIS, FIRST_NETWORK, Variant, left_out, variants
from benchmarks.run_tables import arguments
from deiii.data.cache.identity import find_corpus
from deiii.data.command_line.entry import Command, run
from deiii.data.config.networks import network_names
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.scan import scan_corpus
from deiii.data.corpora.splits import Split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.machine import machine
from deiii.data.tools.progress import progress_bar
from deiii.model.evaluation.crossval import FoldSeed, crossval
from deiii.model.evaluation.predictions import write_predictions
from deiii.model.evaluation.results import prediction_table
from deiii.model.network.task import Task
from deiii.model.peers.match import count_parameters
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import in_full_precision, score
from deiii.model.training.trained import load_network
from deiii.pipeline.preprocess.graph import preprocess


def score_alone(variant: Variant, folds: Sequence[int], seeds: Sequence[int]) -> None:
    """Write the predictions of finished runs with one clip in each batch; those that exist stay."""
    pairs = [FoldSeed(fold, seed) for seed in seeds for fold in folds]
    runs = [RunFolder(Path(variant.config.train.run) / pair.name) for pair in pairs]
    todo = [r for r in runs if r.metrics_json.exists() and not (r.path / variant.file).exists()]
    if not todo:
        return
    features = FeatureSet.open(variant.config, whole=True)
    with progress_bar(total=len(todo), desc=variant.name, unit="run") as bar:
        for own in todo:
            trained = load_network(own.path)
            trained.config.loader.batch = 1
            rows = features.rows(Split.load(own.split).test)
            cpu = torch.device("cpu")
            loader = make_loader(features, rows, trained.config, cpu, training=False)
            found = score(trained.network, loader.epoch(0), cpu, in_full_precision(trained.config.train))
            write_predictions(own.path / variant.file, prediction_table(found, features, trained.task))
            bar.update()


def main() -> int:
    parser = arguments("peers", __doc__)
    parser.add_argument("--folds", type=lambda t: [int(w) for w in t.split(",")], help="default: all")
    parser.add_argument(
        "--only", type=lambda t: t.split(","), default=[*network_names(), BATCH_AXIS],
        metavar="late,mbt", help="networks beside DE-III; default: all peers",
    )  # fmt: skip
    parser.add_argument("--ablations", action="store_true", help="also DE-III without each of its parts")
    parser.add_argument(
        "--task",
        choices=sorted(SETTINGS),
        help="a task of the synthetic corpus, with the ablation's settings",
    )
    parser.add_argument("--match", action="store_true", help="also at the width with DE-III's parameters")
    parser.add_argument("--tables", action="store_true", help="train nothing; write the tables")
    args = parser.parse_args()
    started = time.perf_counter()
    if args.task:
        base = read_settings([*FILES, *SETTINGS[args.task], *args.settings])
        if not args.tables:
            preprocess(base, scan_corpus(base))
    else:
        base = read_settings(args.settings)
    features = FeatureSet.open(base)
    task = Task.of(features, base)
    if not task.classes:
        raise ConfigError("this comparison is of classes; switch model.classes on")
    corpus = features.corpus if base.mix else find_corpus(base)
    folds = args.folds or list(range(number_of_folds(corpus, base.split)))
    only = [*args.only, *(ABLATIONS if args.ablations else ())]
    found = variants(base, args.folder, only, task, args.match)
    missing = left_out(base, args.folder, only, task)
    for words in missing:
        print(words, flush=True)
    for variant in found:
        print(f"{variant.name}: {count_parameters(variant.config, task):,} parameters", flush=True)
    for variant in [] if args.tables else found:
        if variant.trained:
            print(f"{variant.name}: {variant.about}", flush=True)
            crossval(variant.config, args.seeds, folds, args.jobs)
        else:
            score_alone(variant, folds, args.seeds)
    rows = collect(found, folds, args.seeds, task)
    if FIRST_NETWORK not in rows:
        print("nothing has been trained yet")
        return 1
    print(write_tables(found, rows, folds, args.seeds, task, missing))
    result: dict[str, Any] = {"bench": "peers", "corpus": features.corpus.name, "seeds": args.seeds}
    result["networks"] = {
        name: {
            key: round(row[key], 4) if isinstance(row[key], float) else row[key]
            for key in ("uar", "war", "parameters", "gap", "p_holm", PRICE)
            if key in row
        }
        for name, row in rows.items()
    }
    result |= {"machine": machine(), "seconds": round(time.perf_counter() - started)}
    print("RESULT " + json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
