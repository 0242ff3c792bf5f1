"""Words by which lists, folders and cells name the part of a split.

>>> part_of("cremad_train_fold_1.jsonl"), part_of("testlist01.txt"), part_of("TrainSet.csv")
('train', 'test', 'train')
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "devel": "val",
    "development": "val",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of TrainSet
_ENDING = re.compile(r"(?<=.)(?:list|set|split|data|files|clips|ids)s?$")  # of trainlist, testset


def part_of(text: str) -> str | None:
    """Return the part that a file's name, or a cell, names; ``None`` if it names none, or several."""
    stem = PurePosixPath(text.replace("\\", "/")).stem
    words = [_ENDING.sub("", word) for word in re.split(r"[^a-z]+", _CAMEL.sub("_", stem).lower())]
    found = {WORDS[word] for word in words if word in WORDS}
    return found.pop() if len(found) == 1 else None


def part_of_folders(path: str) -> str | None:
    """Return the part that the innermost such folder of a path names; ``None`` if no folder names one.

    >>> part_of_folders("corpus/train_splits/dia0_utt0.mp4")
    'train'
    """
    folders = PurePosixPath(path.replace("\\", "/")).parts[:-1]
    return next((part for folder in reversed(folders) if (part := part_of(folder))), None)
