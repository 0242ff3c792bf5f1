"""The speakers and clips on which a network was trained, in its own run and in the runs that it started from.

``start.json`` in a run folder holds the histories of the runs behind ``train.start``.

>>> [past.corpus for past in histories(RunFolder("runs/mine"))]      # doctest: +SKIP
['table-clips', 'ravdess-audio-only-speech']
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deiii.data.cache.identity import recorded_media
from deiii.data.config.schema import Config, CorpusConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.scan import same_people
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_split import media_names
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.counts import examples
from deiii.model.training.origin import stored_media, stored_table
from deiii.model.training.run_folder import RunError, RunFolder

FILE = "start.json"
MIXED = "mixed"  # key in run.json: corpus name, configured name and root of each corpus of a mixture


@dataclass(frozen=True)
class History:
    """What one run trained and validated on.

    Attributes:
        run: its folder.
        corpus: the corpus's name in the cache.
        name, root: corpus name and media folder from the run's settings; the root is absolute. Empty if
            unknown, as for the corpora of a mixture in a run of an earlier version.
        trained, validated: speakers of the two parts.
        trained_files, validated_files: SHA-256 of the media files of their clips, as far as the run recorded
            them.
    """

    run: str
    corpus: str
    name: str
    root: str
    trained: tuple[str, ...]
    validated: tuple[str, ...]
    trained_files: tuple[str, ...]
    validated_files: tuple[str, ...]

    def same_corpus(self, config: CorpusConfig) -> bool:
        """Return whether speakers of equal names are the same persons, or may be, where that is unknown."""
        if not self.name:
            return self.corpus.startswith(config.name)
        return same_people(CorpusConfig(name=self.name, root=self.root), config)


LISTS = ("trained", "validated", "trained_files", "validated_files")


def histories(run: RunFolder) -> list[History]:
    """Return the run's own history, then those of the runs that it started from.

    A run on a mixture has a history for each of its corpora.

    Raises:
        RunError: ``start.json``, or another file of the run, is damaged.
    """
    before = run.read_config()
    split = run.read_split()
    info = run.read_info()
    name = info.get("corpus", before.corpus.name)
    if "+" in name:
        unknown = [{"corpus": part, "name": "", "root": ""} for part in name.split("+")]
        parts = name.split("+")
        own = [_history(run, split, **part, parts=parts) for part in info.get(MIXED, unknown)]
    else:
        own = [_history(run, split, name, before.corpus.name, str(Path(before.corpus.root).resolve()))]
    path = run.path / FILE
    if not path.exists():
        return own
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return [*own, *(History(**{**e, **{name: tuple(e[name]) for name in LISTS}}) for e in entries)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is damaged ({error}); it states which clips {run.path} was trained on. Restore "
            "it from a copy, or train the run again"
        ) from None


def mixed_record(corpus: Corpus, settings: Iterable[CorpusConfig]) -> list[dict[str, str]]:
    """Return what ``run.json`` records of each corpus of a mixture.

    Args:
        corpus: the mixture.
        settings: settings of its corpora, in order.
    """
    return [
        {"corpus": name, "name": part.name, "root": str(Path(part.root).resolve())}
        for name, part in zip(corpus.parts, settings, strict=True)
    ]


def save_histories(run: RunFolder, past: Collection[History]) -> None:
    """Write ``start.json``; without histories, remove what an earlier attempt left."""
    if past:
        write_json(run.path / FILE, {"runs": [asdict(history) for history in past]}, indent=None)
    else:
        (run.path / FILE).unlink(missing_ok=True)


def seen_speakers(past: Iterable[History], config: CorpusConfig, validated: bool = True) -> set[str]:
    """Return the training and validation speakers of a corpus; none if it is of other people.

    Args:
        past: histories.
        config: the corpus.
        validated: whether validation counts, or training alone.
    """
    same = [history for history in past if history.same_corpus(config)]
    return {name for history in same for name in history.trained + history.validated * validated}


def seen_files(past: Iterable[History], validated: bool = True) -> set[str]:
    """Return the SHA-256 of the media files of training and, with ``validated``, of validation."""
    return {digest for h in past for digest in h.trained_files + h.validated_files * validated}


def check_unseen(past: Collection[History], corpus: Corpus, split: Split, config: Config) -> None:
    """Refuse to start from a run that was trained or validated on test clips, or trained on validation clips.

    Args:
        past: `histories` of the run.
        corpus, split: corpus and split of the training that is to start.
        config: its settings.

    Raises:
        ConfigError: names the speakers or the recordings.
    """
    media = recorded_media(config.cache, corpus.name) if past else {}
    for part, validated in (("test", True), ("val", False)):
        held, how = set(getattr(split, part)), "trained or validated" if validated else "trained"
        named = sorted(seen_speakers(past, config.corpus, validated) & {*split.speakers(part)})
        files = seen_files(past, validated)
        copies = [
            c.id for c in corpus.clips if c.id in held and c.path in media and media[c.path][2] in files
        ]
        what, found = ("speakers", named) if named else ("recordings", copies)
        if found:
            raise ConfigError(
                f"train.start={config.train.start} was {how} on {what} of this "
                f"{'test' if part == 'test' else 'validation'} part ({examples(found)}): their scores would "
                "be too good. Start from a run that was not, or use the split of that run"
            )


def _history(
    run: RunFolder, split: Split, corpus: str, name: str, root: str, parts: Sequence[str] = ()
) -> History:
    """Return the history of a run's corpus, or of one corpus of its mixture of ``parts``."""
    fronts = tuple(f"{part}:" for part in parts)

    def is_own(clip_id: str) -> bool:
        front = next((front for front in fronts if clip_id.startswith(front)), "")
        # In a mixture the clips of the first corpus may have their own names.
        return front == f"{corpus}:" or not front and corpus == parts[0]

    def plain(speaker: str) -> str:
        return next((speaker.removeprefix(front) for front in fronts if speaker.startswith(front)), speaker)

    def speakers(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({plain(split.speaker_of[i]) for i in ids}))

    train, val = ([i for i in ids if not parts or is_own(i)] for ids in (split.train, split.val))
    return History(
        str(run.path),
        corpus,
        name,
        root,
        speakers(train),
        speakers(val),
        _files(run, train),
        _files(run, val),
    )


def _files(run: RunFolder, clips: Iterable[str]) -> tuple[str, ...]:
    """Return the SHA-256 of the media files of some of a run's clips."""
    media, chosen = stored_media(run), set(clips)
    corpus = stored_table(run) if media else None
    if corpus is None:
        return ()
    known = media_names(corpus)
    names = {known[clip.id] for clip in corpus.clips if clip.id in chosen}
    return tuple(sorted({media[name] for name in names if name in media}))
