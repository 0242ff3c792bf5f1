"""Write the features of a corpus in a format that is read without deiii, with a card.

>>> export_features(load_config("ravdess"), "ravdess-features", "webdataset")      # doctest: +SKIP
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deiii.data.cache.index import read_index, stage_folder
from deiii.data.config.schema import Config
from deiii.data.corpora.scan import title_of
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.sharing.card import CARD, card_text, corpus_facts
from deiii.data.sharing.clips import SharedClip, array_kinds, part_sizes, shared_clips, split_of
from deiii.data.sharing.formats import HUB_PARTS, WRITERS, SharingError, require_pyarrow
from deiii.data.tools.atomic_files import writable_folder, write_json, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.progress import progress_bar

FACTS = "features.json"
LOAD = {
    "npz": """
import csv, numpy, pathlib
rows = list(csv.DictReader(pathlib.Path("clips.csv").read_text(encoding="utf-8").splitlines()))
arrays = numpy.load(rows[0]["file"])  # arrays["{array}"]
""",
    "parquet": """
import glob, numpy, pyarrow.parquet
row = pyarrow.parquet.ParquetFile(sorted(glob.glob("*.parquet"))[0]).read_row_group(0).to_pylist()[0]
array = numpy.frombuffer(row["{array}"], "{dtype}").reshape(row["{array}_shape"])
""",
    "webdataset": """
import glob, webdataset
samples = webdataset.WebDataset(sorted(glob.glob("*.tar")), shardshuffle=False).decode()
sample = next(iter(samples))  # sample["json"]["label"], sample["{array}.npy"]
""",
    "hf": """
import datasets, numpy, pathlib
folder = pathlib.Path(".").absolute()  # datasets needs its name
row = datasets.load_dataset(str(folder), split="train")[0]
array = numpy.frombuffer(row["{array}"], "{dtype}").reshape(row["{array}_shape"])
""",
}


def export_features(config: Config, out: str | Path, kind: str, progress: bool = True) -> tuple[int, int]:
    """Write every clip with features: arrays, labels, speaker and part of the split.

    Args:
        config: names the corpus, the cache, the stages that the network reads, and the split.
        out: a new or empty folder; its card is written last.
        kind: ``npz``, ``parquet``, ``webdataset`` or ``hf``.
        progress: show a bar.

    Returns:
        the number of clips, and the size of the files in bytes.

    Raises:
        SharingError: the folder holds files, a package is missing, or the corpus is a mixture.
        CacheError: features are missing or damaged.
    """
    if config.mix:
        raise SharingError("mix= joins corpora for training; export each corpus by itself")
    check_new(out, kind)
    if config.copies:
        print("note: copies= are made for training and are not exported", file=sys.stderr)
        config = replace(config, copies=[])
    return write_features(FeatureSet.open(config, whole=True), config, out, kind, progress)


def check_new(out: str | Path, kind: str) -> None:
    """Raise SharingError where the folder holds files, or a package that the format needs is missing."""
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        unfinished = Path(out).is_dir() and not (Path(out) / CARD).exists()
        remedy = f", or remove it if a stopped export left it (it has no {CARD})" if unfinished else ""
        raise SharingError(f"{out} exists and is not empty; name a new folder{remedy}")
    if kind in ("parquet", "hf"):
        require_pyarrow()


def write_features(
    features: FeatureSet, config: Config, out: str | Path, kind: str, progress: bool = True
) -> tuple[int, int]:
    """Write features that are already open, as `export_features` does; an error leaves the folder empty."""
    out = Path(out)
    check_new(out, kind)
    writable_folder(out)
    try:
        return _write(features, config, out, kind, progress)
    except BaseException:  # the same command must work again, and half of an export must not be used
        for path in out.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise


def _write(features: FeatureSet, config: Config, out: Path, kind: str, progress: bool) -> tuple[int, int]:
    split = split_of(features, config)
    sizes, kinds = part_sizes(features, split) if split else {}, array_kinds(features)
    parts: list[str | None] = [*sizes] or [None]
    seen: set[int] = set()
    with progress_bar(desc=kind, unit="clip", total=len(features), shown=progress) as bar:

        def clips(part: str | None) -> Iterator[SharedClip]:
            for clip in shared_clips(features, split, part):
                if clip.number not in seen:  # a format may look at all clips before it writes them
                    seen.add(clip.number)
                    bar.update()
                yield clip

        WRITERS[kind](out, clips, kinds, parts)
    indices = [
        read_index(stage_folder(config.cache, features.corpus.name, stage, key))
        for stage, key in features.keys.items()
    ]
    facts: dict[str, Any] = corpus_facts(features.corpus, indices)
    facts["arrays"] = {
        name: {"dtype": dtype, "shape": ["rows", *shape]} for name, (dtype, shape) in kinds.items()
    }
    facts["split"] = (
        None
        if split is None
        else {
            "protocol": split.protocol, "fold": split.fold, "folds": split.n_folds, "digest": split.digest,
            "clips": sizes,
        }
    )  # fmt: skip
    write_json(out / FACTS, facts)
    array, title = next(iter(kinds)), title_of(config.corpus, features.corpus.name, features.corpus.root)
    front = {"license": facts["hub_licence"], "splits": [HUB_PARTS[part] for part in parts]}
    text = card_text(
        [facts],
        [title],
        f"Features of {title}",
        f"{counted(len(features), 'clip')} in the format {kind}, with labels, speakers, times and parts"
        + (f" of fold {split.fold} of the split {split.protocol}." if split else "; no split."),
        "",
        LOAD[kind].format(array=array, dtype=kinds[array][0]),
        front if kind == "hf" else None,
        kinds,
    )
    write_text(out / CARD, text)
    return len(features), sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
