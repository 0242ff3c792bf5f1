"""Settings with which commands end in seconds, for the documentation's sandbox. Imports nothing."""

from __future__ import annotations


def tiny(words: list[str]) -> list[str]:
    """Return the settings to add to the words of a Python command line, e.g. ``["-m", "deiii", "train"]``."""
    if words[:1] != ["-m"] or len(words) < 3:
        return []
    sizes = ["corpus.synthetic.speakers=6", "corpus.synthetic.clips_per_class=1", "corpus.synthetic.size=128"]
    sizes += ["corpus.synthetic.seconds=0.8", "workers=1", "flow.method=dis", "faces.detector=haar"]
    sizes += ["faces.weights=null", "faces.size=64", "max_failed=1"]
    fast = ["train.epochs=1", "loader.batch=4", "loader.steps=4", "loader.crop=56", "model.width=16"]
    fast += ["model.heads=2", "model.channels=[4,8]", "model.grid=2", "train.device=cpu"]
    if words[1] == "torch.distributed.run":
        words = words[words.index("-m", 2) :]
    command = words[1:3]
    if command[:1] == ["deiii"] and command[1] in ("preprocess", "synthesize", "verify", "export-features"):
        return sizes
    if command == ["deiii", "inspect"]:
        return sizes[5:]
    trains = command in (["deiii", "train"], ["deiii", "crossval"], ["deiii", "sweep"])
    return sizes + fast if trains else []
