"""What `deiii init` writes and says where a folder holds a part of a corpus with published folds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from deiii.data.config.load import load_config
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.protocol import as_spelled, load_protocol
from deiii.pipeline.init.folders import guess, one_file_each
from deiii.pipeline.init.found import Found, InitError
from deiii.pipeline.init.vocabulary import is_emotion

# Speakers of the corpora whose published folds are sessions, which the protocols do not list.
SPEAKERS_OF_SESSIONS = {"iemocap": 10, "msp_improv": 12}
NOT_IN_SONGS = "actor-18"  # RAVDESS has no songs of this actor
PROTOCOL = "\n  protocol: "


@dataclass(frozen=True)
class Part:
    """A part of a corpus with published folds, in which speakers are missing.

    Attributes:
        name: name of the corpus.
        here: number of its speakers in the folder.
        speakers: number of its speakers.
        protocol: the protocol of the published folds.
        sessions: whether its folds are sessions; those in the folder remain folds.
    """

    name: str
    here: int
    speakers: int
    protocol: str
    sessions: bool

    @property
    def note(self) -> str:
        """A line for people: how many speakers are missing, and which folds are used."""
        missing = self.speakers - self.here
        are = "is" if missing == 1 else "are"
        told = f"{missing} of the {self.speakers} actors of {self.name} {are} missing"
        if self.sessions:
            return f"{told}, so the folds are the sessions in the folder and not the published folds"
        return f"{told}, so the published folds ({self.protocol}) are not used; split.protocol is speakers"

    def settings(self, text: str, config: str, preset: str) -> str:
        """Return the text of the corpus's config for this part: another protocol, another first comment.

        Args:
            text: the config of the whole corpus.
            config: file name of the config to write.
            preset: bare name of the config that the command in the comment names; may be empty.
        """
        if not self.sessions:
            before, mark, after = text.partition(PROTOCOL)
            text = f"{before}{mark}speakers\n{after.partition(chr(10))[2]}"
        words = f"{shlex.quote(config)} {preset}".strip()
        about = f"# A part of {self.name}: {self.here} of {self.speakers} actors."
        return f"{about}\n#   deiii preprocess {words}\n" + text[text.index("# Get it") :]


def part_of_corpus(found: Found, corpus: Corpus) -> Part | None:
    """Return the part of a corpus that a folder holds.

    It is ``None`` if no speaker is missing, or the corpus has no published folds.

    Args:
        found: what `look` found.
        corpus: the scanned corpus.
    """
    if not found.config:
        return None
    whole = load_config(found.config)
    protocol = load_protocol(whole.split.protocol)
    name, here = whole.corpus.name, len(corpus.speakers)
    if protocol.kind == "column":
        speakers = SPEAKERS_OF_SESSIONS[name]
        return Part(name, here, speakers, protocol.name, True) if here < speakers else None
    if protocol.kind != "fixed":
        return None
    listed = {speaker for fold in protocol.folds for speaker in as_spelled(fold, corpus)}
    if found.corpus.get("channel") == "song":
        listed.discard(NOT_IN_SONGS)
    present = len(listed & set(corpus.speakers))
    return Part(name, present, len(listed), protocol.name, False) if present < len(listed) else None


def unused_folders(found: Found, corpus: Corpus) -> str:
    """Return a note on folders that name other labels or speakers than the file names; empty if none do.

    Folders of labels must be named after emotions.

    Args:
        found: what `look` found.
        corpus: the scanned corpus.
    """
    if not found.config:
        return ""
    clips = {clip.path: clip for clip in corpus.clips}
    try:
        other = guess(one_file_each(list(clips))[0])
    except InitError:
        return ""
    layout = other.how.removeprefix("layout ")
    read = [word for word in ("speaker", "label") if word in layout.split("/")[:-1]]
    pairs = {
        "speaker": [(row.speaker, clips[row.path].speaker) for row in other.rows],
        "label": [(row.label, str(clips[row.path].label)) for row in other.rows],
    }
    labels = {row.label for row in other.rows}
    doubtful = 2 * sum(map(is_emotion, labels)) < len(labels)  # such as SAVEE's folders of speakers
    if "label" not in read or doubtful or all(_agree(pairs[word]) for word in read):
        return ""
    return (
        f"folders look like names of the {' and the '.join(read)}; they are not used, because the file names "
        f"are those of {found.config}. --layout {shlex.quote(layout)} reads the folders"
    )


def _agree(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether two namings tell the same groups of clips apart."""
    return len(set(pairs)) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
