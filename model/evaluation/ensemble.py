"""Score several runs as one ensemble: the mean of their probabilities, on the test speakers that they share.

The folder of an ensemble holds ``run.json``, which names the members, and what evaluation writes of a run:
``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``. So `deiii compare`, `deiii predict`
and `deiii export` take it like a run folder.

>>> metrics, report = evaluate_ensemble(["runs/cv/fold0"], "runs/fold0")     # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import file_sha256, writable_folder, write_json, write_text
from deiii.data.tools.devices import use_device
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.evaluate import (
    EVALUATE_REMEDY,
    Scorer,
    now,
    open_features,
    require_finished,
    say_other_features,
    score_parts,
)
from deiii.model.evaluation.predictions import write_predictions
from deiii.model.evaluation.report import write_report
from deiii.model.evaluation.results import prediction_table
from deiii.model.evaluation.sections.mistakes import worst_mistakes
from deiii.model.members import EnsembleError, check_members, find_members
from deiii.model.provenance import provenance
from deiii.model.scored_weights import MEMBERS, own_members
from deiii.model.training.origin import MEDIA, check_origin, other_features, require_test
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.trained import TrainedNetwork, load_network

# What ``run.json`` of an ensemble takes from its first member; `check_members` compares most of it.
SHARED = (
    "keys", "split", "corpus", "classes", "attributes", "ranges", "clips", "seconds", "clip_digest",
    "label_digest", "encoders",
)  # fmt: skip


def evaluate_ensemble(
    runs: Sequence[str | Path],
    out: str | Path,
    cache: str | None = None,
    device: str | None = None,
    again: bool = False,
    keep: bool = False,
    unfinished: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Score an ensemble, once; writes its folder.

    Args:
        runs: run folders, or a name that stands for several (`deiii.model.members`).
        out: the folder of the ensemble.
        cache, device, unfinished: arguments of `deiii.model.evaluation.evaluate.evaluate`.
        again: score an ensemble of the same members that was scored before, here or in another folder.
        keep: return the stored result of such an ensemble in ``out``.
        progress: whether to show a bar where scoring takes long.

    Returns:
        what ``metrics.json`` holds, and the path of the report.

    Raises:
        EnsembleError: the members cannot be averaged (`deiii.model.members.check_members`).
        RunError: the ensemble was scored before, ``out`` holds something else, a member is not trained to
            its end, or caches, clips or labels are not those of the training.
        Locked: another process trains or scores a member, or scores into ``out``.
        CheckpointError, CacheError, DeviceError: as for `deiii.model.evaluation.evaluate.evaluate`.
    """
    members = find_members(runs)
    for member in members:
        RunFolder(member).read_info(whole=True)  # refuses what is no run before the lock is made
    folder = RunFolder(out)
    if keep and folder.metrics_json.exists() and all(RunFolder(member).best.exists() for member in members):
        _check_folder(folder, members, _weights(members))
        return folder.read_metrics(), folder.report
    with ExitStack() as locks:
        # Members are read after this, so that no two processes score the same ensemble, or train one of them.
        for member in sorted(members, key=os.path.realpath):
            locks.enter_context(writer_lock(member, wait=False))
        return _evaluate(members, folder, cache, device, again, keep, unfinished, progress)


def _evaluate(
    members: Sequence[Path],
    folder: RunFolder,
    cache: str | None,
    device: str | None,
    again: bool,
    keep: bool,
    unfinished: bool,
    progress: bool,
) -> tuple[dict[str, Any], Path]:
    """Score members that no other process writes to."""
    for member in members:
        require_test(RunFolder(member))
    networks = [load_network(member) for member in members]
    check_members(members, [n.config for n in networks], [n.info for n in networks])
    _check_hidden(members, networks)
    states = [
        require_finished(RunFolder(m), n.config, unfinished) for m, n in zip(members, networks, strict=True)
    ]
    weights = _weights(members)
    _check_folder(folder, members, weights)
    if keep and folder.metrics_json.exists():
        return folder.read_metrics(), folder.report
    earlier = _earlier(members, weights)
    if earlier and not again:
        raise _scored_before(members, earlier[-1])
    writable_folder(folder.path)
    with writer_lock(folder.path, wait=False):
        _check_folder(folder, members, weights)  # another ensemble may have been scored into it meanwhile
        if cache is not None:
            for network in networks:
                network.config.cache = cache
        first = networks[0]
        target = use_device(device or first.config.train.device)
        features = open_features(RunFolder(members[0]), first.config, first.task, dict(first.info))
        for member in members[1:]:
            check_origin(RunFolder(member), features.corpus, EVALUATE_REMEDY, first.config.cache)
            say_other_features(RunFolder(member), features)
        split = RunFolder(members[0]).read_split()
        split.check(features.corpus)
        metrics, test = score_parts(Scorer(networks, features, split, target, progress), folder.path)
        parts = _member_records(members, networks, features)
        metrics |= {
            "epoch": [part["epoch"] for part in parts],
            MEMBERS: parts,
            "evaluations": len(earlier) + 1,
            "training": max((s.record() for s in states), key=lambda record: not record["finished"]),
        }
        entry = {"time": now(), "folder": str(folder.path), "weights": weights, "device": str(target)}
        info = _info(folder, members, networks, [*earlier, entry])
        write_json(folder.info, info)
        split.save(folder.split)
        _copy_media_digests(members[0], folder)
        write_predictions(folder.predictions, prediction_table(test, features, first.task))
        settings = RunFolder(members[0]).config.read_text(encoding="utf-8")
        mistakes = worst_mistakes(test, features, first.task)
        report = write_report(folder, metrics, info, features, mistakes, settings)
        for member in members:
            _record(RunFolder(member), entry)
        write_json(folder.metrics_json, metrics)  # last: with it the ensemble counts as scored
    return metrics, report


def folder_of(names: Sequence[str | Path]) -> Path:
    """Return the folder of an ensemble where none is given: beside the one name, or ``runs/ensemble``.

    >>> folder_of(["runs/cv/fold0"]).as_posix()
    'runs/cv/fold0-ensemble'
    """
    if len(names) > 1:
        return Path("runs/ensemble")
    name = Path(os.path.normpath(names[0]))
    return name if own_members(name) else name.with_name(f"{name.name}-ensemble")


def _check_hidden(members: Sequence[Path], networks: Sequence[TrainedNetwork]) -> None:
    """Refuse members with different ``split.hide``: no single setting would describe their mean score."""
    first, *others = [", ".join(sorted(network.config.split.hide)) or "nothing" for network in networks]
    for member, hidden in zip(members[1:], others, strict=True):
        if hidden != first:
            raise EnsembleError(
                f"{member} cannot be scored together with {members[0]}: split.hide hides {hidden} from the "
                f"test clips of the one, {first} from those of the other. Name runs with the same split.hide"
            )


def _weights(members: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of the weights of each member, in alphabetical order."""
    return sorted(file_sha256(RunFolder(member).best) for member in members)


def _check_folder(folder: RunFolder, members: Sequence[Path], weights: Sequence[str]) -> None:
    """Refuse a folder that holds a run, or an ensemble of other members."""
    if not folder.info.exists():
        return
    entries = folder.read_info().get("evaluations", [])
    if MEMBERS not in folder.read_info() or any(entry.get("weights") != weights for entry in entries):
        what = "another ensemble" if MEMBERS in folder.read_info() else "a run"
        raise RunError(
            f"{folder.path} holds {what}, which the ensemble of {', '.join(map(str, members))} would "
            "replace; name another folder with --out"
        )


def _earlier(members: Sequence[Path], weights: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records of earlier scorings of an ensemble of exactly these weights, in any folder."""
    entries = RunFolder(members[0]).read_info().get("ensembles", [])
    return [entry for entry in entries if entry["weights"] == weights]


def _scored_before(members: Sequence[Path], last: dict[str, Any]) -> RunError:
    """Return the error that an ensemble was scored already; ``last`` is the record of its last scoring."""
    return RunError(
        f"the ensemble of {', '.join(map(str, members))} was scored before (at {last['time']}, "
        f"folder {last['folder']}), and test speakers are scored once; --again scores it again "
        "and records that"
    )


def _member_records(
    members: Sequence[Path], networks: Sequence[TrainedNetwork], features: FeatureSet
) -> list[dict[str, Any]]:
    """Return folder, epoch, seed and SHA-256 of the weights of each member, for ``metrics.json``.

    A member that was trained on other features also has their stages, as ``other_features``.
    """
    changed = [other_features(RunFolder(member), features) for member in members]
    return [
        {
            "run": str(member),
            "epoch": network.epoch,
            "seed": network.config.train.seed,
            "weights": file_sha256(RunFolder(member).best),
            **({"other_features": others} if others else {}),
        }
        for member, network, others in zip(members, networks, changed, strict=True)
    ]


def _copy_media_digests(member: Path, folder: RunFolder) -> None:
    """Copy a member's list of media digests, by which `deiii compare` refuses runs on other recordings."""
    if (member / MEDIA).is_file():
        write_text(folder.path / MEDIA, (member / MEDIA).read_text(encoding="utf-8"))


def _record(run: RunFolder, entry: dict[str, Any]) -> None:
    """Record in a member's ``run.json`` that its test speakers were scored as a part of an ensemble."""
    info = run.read_info()
    write_json(run.info, {**info, "ensembles": [*info.get("ensembles", []), entry]})


def _info(
    folder: RunFolder,
    members: Sequence[Path],
    networks: Sequence[TrainedNetwork],
    evaluations: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the content of the ensemble's ``run.json``."""
    first = networks[0].info
    return {
        MEMBERS: [os.path.relpath(member, folder.path) for member in members],
        **{name: first[name] for name in SHARED if name in first},
        "evaluations": list(evaluations),
        **provenance(),
    }
