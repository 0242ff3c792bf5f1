"""The model card: what a network is, what it was trained on, how well it does and where it should not go.

Its form follows Mitchell et al., "Model Cards for Model Reporting" (arXiv 1810.03993); every number
comes from the run.
"""

from __future__ import annotations

from typing import Any

from deiii.model.metrics import figure_names


def model_card(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """Markdown from an export's manifest and, where the run was evaluated, its metrics."""
    m, s = manifest, manifest["settings"]
    streams = [n for n, on in (("face crops", s["model"]["video"]), ("optical flow", s["model"]["flow"]),
                               ("log-mel spectrogram", s["model"]["audio"])) if on]  # fmt: skip
    predicts = []
    if m["classes"]:
        predicts.append("the classes " + ", ".join(m["classes"]))
    if m["attributes"]:
        ranges = (f"{n} ({lo:g} to {hi:g})" for n, (lo, hi) in zip(m["attributes"], m["ranges"], strict=True))
        predicts.append("the attributes " + ", ".join(ranges))
    clips = ", ".join(f"{n} {part}" for part, n in m["clips"].items())
    flow = s["flow"]["model"] if s["flow"]["method"] == "raft" else s["flow"]["method"]
    sound = f"{s['logmel']['n_mels']} bands at {s['logmel']['sample_rate']} Hz"
    keys = ", ".join(f"{stage} {key}" for stage, key in m["keys"].items())
    lines = [
        f"# DE-III on {m['corpus']}",
        "",
        f"An audio-visual emotion recognition network with {m['parameters']:,} parameters (DE-III, "
        "arXiv 2405.16701, as implemented in `deiii`). From "
        f"{', '.join(streams)} it predicts {' and '.join(predicts)}.",
        "",
        "## Use",
        "",
        "```python",
        "from deiii import load",
        "",
        'network = load("PATH/OF/THIS/FOLDER")',
        'print(network.predict("clip.mp4").probabilities)',
        "```",
        "",
        "`deiii.json` holds every parameter of the preprocessing. `deiii.pt2` is the network alone, for "
        "`torch.export.load(path).module()`; it takes a dictionary of tensors, which `inputs` in "
        "`deiii.json` describes.",
        "",
        "## Data",
        "",
        f"Corpus {m['corpus']}: {clips} clips, split by speaker (digest {m['split']}); the epoch "
        f"({m['epoch']}) was chosen on validation speakers. Faces: {s['faces']['detector']}, "
        f"{s['faces']['size']} px; flow: {flow}; log-mel: {sound}. Cache keys: {keys}.",
        "",
        "## Results",
        "",
        *_results(metrics),
        "",
        "## Limits",
        "",
        "- Trained on the recordings of one corpus. Other cameras, languages, ages and cultures, and "
        "emotions that people do not act, may give other results; check on your own labelled clips first.",
        "- It reports what a face and a voice look and sound like to the corpus's annotators, not what a "
        "person feels. Do not use it to decide about people.",
        "- The corpus's licence may limit what its networks may be used for.",
        "",
        "## Provenance",
        "",
        f"Source revision {m['revision'] or 'unknown'}; "
        + ", ".join(f"{n} {v}" for n, v in m["versions"].items())
        + ".",
        "",
    ]
    if "program_difference" in m:
        text = f"`deiii.pt2` gives the network's outputs to within {m['program_difference']:.1e}."
        lines[-1:] = ["", text, ""]
    return "\n".join(lines)


def _results(metrics: dict[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["The run has not been evaluated on its test speakers: nothing is known about its quality."]
    test = metrics["test"]
    rows = ["| figure | test speakers | 95 % interval over speakers |", "|---|---|---|"]
    for key, label in figure_names(test).items():
        if test.get(key) is not None:
            ci = test.get(f"{key}_ci")
            rows.append(f"| {label} | {test[key]:.3f} | {f'{ci[0]:.3f} to {ci[1]:.3f}' if ci else '–'} |")
    scored = metrics["clips"]["test"]["scored"]
    return [*rows, "", f"{scored} clips of {len(test['per_speaker'])} speakers that training never saw."]
