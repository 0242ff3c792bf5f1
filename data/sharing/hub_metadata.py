"""The metadata that the Hugging Face Hub reads at the head of a network's card.

The keys are those of ``huggingface_hub.ModelCardData``, and ``frozen_encoders`` and ``intended_use``, which
the Hub keeps. Keys that the Hub checks have values that it accepts: ``license`` is in its list, or ``other``
with a ``license_name``; ``base_model`` holds names of models on the Hub, ``language`` codes of ISO 639-1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import yaml

from deiii.data.sharing.licences import LICENCES, base_name

HUB_MODEL = re.compile(r"https://huggingface\.co/(?!(?:datasets|spaces|docs|papers|blog)/)([\w.-]+/[\w.-]+)")
IN_CARD = "stated-in-the-card"  # where a licence has no short name
ADDRESS = re.compile(r"https?://\S+")
LONGEST_NAME = 64  # characters of the name of a licence
INTENDED_USE = (
    "Research on how emotions are expressed and perceived in recordings like those of the corpus; not for "
    "decisions about people, and not for recordings of people who have not agreed."
)
# Names of metrics on the Hub (https://hf.co/metrics), keyed by the figure that is computed so.
METRICS = {"uar": "recall", "war": "accuracy", "macro_f1": "f1"}


class Known(NamedTuple):
    """A corpus as other people name it: its usual name, and the ISO 639-1 code of its language."""

    name: str
    language: str


# Keyed like `LICENCES`.
KNOWN = {
    "ravdess": Known("ravdess", "en"),
    "crema_d": Known("crema-d", "en"),
    "msp_improv": Known("msp-improv", "en"),
    "iemocap": Known("iemocap", "en"),
    "pattern-tess": Known("tess", "en"),
    "pattern-cafe": Known("cafe", "fr"),
    "pattern-savee": Known("savee", "en"),
    "pattern-enterface": Known("enterface05", "en"),
    "pattern-mead": Known("mead", "en"),
    "pattern-emodb": Known("emodb", "de"),
}


def front_matter(
    manifest: Mapping[str, Any],
    title: str,
    figures: Mapping[str, str],
    test: Mapping[str, Any] | None,
    corpus: str = "",
    modalities: Collection[str] = (),
) -> str:
    """Return the metadata of a network as YAML, without the lines ``---``.

    Args:
        manifest: what ``deiii.json`` holds.
        title: name of the kind of network.
        figures: names of the figures of the test speakers, by key.
        test: the figures, by key; ``None`` where the network was not evaluated.
        corpus: name of the corpus by which people know it; by default that in the manifest.
        modalities: what the network reads, ``video`` or ``audio`` or both; by default those of the switches
            of ``model``, which do not include the stages of ``model.extra``.
    """
    corpus = corpus or manifest["corpus"]
    corpora = known_corpora(manifest["corpus"])
    model = manifest["settings"]["model"]
    read = modalities or [
        name for name, used in (("video", model["video"] or model["flow"]), ("audio", model["audio"])) if used
    ]
    task = "video-classification" if "video" in read else "audio-classification"
    encoders = manifest.get("encoders", ())
    base = list(dict.fromkeys(name for e in encoders if (name := hub_model(e["source"]))))
    described = ("stage", "name", "licence", "source", "sha256")
    tree: dict[str, Any] = {
        **licence_metadata(manifest["licence"]),
        "library_name": "deiii",
        "pipeline_tag": task,
        "tags": ["emotion-recognition", "deiii", *(name for name in ("video", "audio") if name in read)],
        "language": sorted({known.language for known in corpora}),
        "datasets": [known.name for known in corpora],
        "base_model": base,
        # Without it, the Hub takes one base model for finetuned and several for merged.
        "base_model_relation": "adapter" if base else None,
        "frozen_encoders": [{key: e[key] for key in described if e.get(key)} for e in encoders],
        "metrics": [],
        "intended_use": INTENDED_USE,
    }
    if test is not None and figures:
        tree["metrics"] = [METRICS[key] for key in figures if key in METRICS]
        data = {
            "name": corpus,
            "type": _dataset_type(manifest["corpus"]),
            "split": f"test speakers, split {manifest['split']}",
        }
        values = [{"type": key, "name": label, "value": test[key]} for key, label in figures.items()]
        result = {"task": {"type": task}, "dataset": data, "metrics": values}
        tree["model-index"] = [{"name": f"{title} on {corpus}", "results": [result]}]
    filled = {key: value for key, value in tree.items() if value not in (None, [])}
    return yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=10_000).rstrip("\n")


def known_corpora(corpus: str) -> list[Known]:
    """Return the corpora of a name that other people know, also of a mixture (``ravdess+crema_d``).

    >>> [known.name for known in known_corpora("ravdess-audio-only-speech+mine+crema_d")]
    ['ravdess', 'crema-d']
    """
    found = (KNOWN.get(base_name(part) or "") for part in corpus.split("+"))
    return list(dict.fromkeys(known for known in found if known is not None))


def _dataset_type(corpus: str) -> str:
    """Return the usual name of a corpus, or its own in the form of a name on the Hub."""
    parts = corpus.split("+")
    names = [known.name if (known := KNOWN.get(base_name(part) or "")) else part for part in parts]
    return "-".join(re.findall(r"[a-z0-9_.]+", _ascii("-".join(names)))) or "unnamed"


def _ascii(text: str) -> str:
    """Return text in small letters, without accents and characters of other scripts."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()


def hub_model(source: str) -> str:
    """Return the name of the model whose page on the Hub an address is; empty for others.

    >>> hub_model("https://huggingface.co/microsoft/wavlm-base-plus"), hub_model("https://github.com/a/b")
    ('microsoft/wavlm-base-plus', '')
    """
    found = HUB_MODEL.fullmatch(source)
    return found[1] if found else ""


def licence_metadata(licence: str) -> dict[str, str]:
    """Return the keys of a licence: its name in the Hub's list, or ``other`` with a name and an address.

    Args:
        licence: the licence in words, as in `LICENCES` or as the user stated it.

    >>> licence_metadata("by Anna: ask")
    {'license': 'other', 'license_name': 'by-anna-ask'}
    """
    listed = dict(LICENCES.values()).get(licence, "other")
    if listed != "other":
        return {"license": listed}
    keys = {"license": "other", "license_name": _licence_name(licence)}
    addresses = ADDRESS.findall(licence)
    if len(addresses) == 1 and keys["license_name"] != IN_CARD:
        keys["license_link"] = addresses[0].rstrip(".,;)")
    return keys


def _licence_name(words: str) -> str:
    """Return a licence in small letters, digits, dots and hyphens, which is the form of ``license_name``."""
    if words.startswith("not stated"):
        return "not-stated"
    brief = re.sub(r"\(.*?\)", "", ADDRESS.sub("", words))
    name = "-".join(re.findall(r"[a-z0-9](?:[a-z0-9.]*[a-z0-9])?", _ascii(brief)))
    return name if name and len(name) <= LONGEST_NAME else IN_CARD  # a part would mislead
