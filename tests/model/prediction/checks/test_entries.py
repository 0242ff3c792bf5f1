"""Every entry of ``deiii.json`` that is missing or of another type is named."""

from __future__ import annotations

import copy

import pytest

from deiii.model.prediction.checks.entries import ENTRIES, OF_ENSEMBLE, REQUIRED, wrong_entry

GOOD = {
    "corpus": "mine", "classes": ["happy", "sad"], "attributes": ["valence"], "ranges": [[-1, 1.0]],
    "seconds": {"median": 2.5, "longest": 4}, "settings": {"model": {}}, "hidden": ["flow"],
    "inputs": {"audio_mask": {"shape": ["B", 160], "dtype": "bool", "meaning": "..."}},
    "preparation": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "db_centre": -40.0, "db_scale": 20.0,
                    "flow_unit_s": 0.04, "shortest_step_s": 0.002},
    "keys": {"logmel": "e7e2f30ff518"}, "encoders": [], "scores": {"uar": 0.5}, "temperature": 0.7,
    "training": {"finished": True, "epochs": 3, "planned": 3}, "epoch": 2, "parameters": 1000,
    "sha256": {"model.onnx": "00"},
}  # fmt: skip
OTHERS = [None, True, -1, 0.5, "x", [], [1], {}, {"x": 1}, float("nan")]
# Values of `OTHERS` that are right, by entry, as they are printed.
RIGHT = {
    "corpus": ["x"], "classes": ["[]"], "seconds": ["None"], "settings": ["{}", "{'x': 1}"], "hidden": ["[]"],
    "inputs": ["{}"], "keys": ["{}"], "encoders": ["[]"], "scores": ["None", "{}", "{'x': 1}"],
    "temperature": ["None", "0.5"], "training": ["None"], "epoch": ["-1", "0.5"], "parameters": ["-1", "0.5"],
    "sha256": ["{}"],
}  # fmt: skip


def test_a_whole_manifest_is_right():
    assert wrong_entry(GOOD) == "" and GOOD.keys() == ENTRIES.keys()
    assert wrong_entry({name: GOOD[name] for name in REQUIRED}) == ""  # as earlier versions wrote it
    assert wrong_entry({**GOOD, "future": 1}) == ""


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_of_another_type_is_named(name):
    wrong = [str(value) for value in OTHERS if wrong_entry({**GOOD, name: value})]
    assert wrong == [str(value) for value in OTHERS if str(value) not in RIGHT.get(name, [])]
    for value in OTHERS:
        if str(value) in wrong:
            assert name in wrong_entry({**GOOD, name: value})


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_entry_is_named(name):
    assert wrong_entry({n: v for n, v in GOOD.items() if n != name}) == f"its entry {name} is missing"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("classes",), ["sad", "sad"]),
        (("classes",), ["sad", ""]),
        (("ranges", 0), [1, -1]),
        (("ranges", 0), [0]),
        (("seconds", "median"), 0),
        (("inputs", "audio_mask", "shape"), ["B"]),
        (("inputs", "audio_mask", "shape"), ["B", "hops"]),
        (("inputs", "audio_mask", "dtype"), None),
        (("preparation", "std"), [0.2, 0.2, 0.0]),
        (("preparation", "db_scale"), 0),
        (("training", "finished"), "yes"),
        (("temperature",), 0),
        pytest.param(("temperature",), 10**400, id="an integer that no float can hold"),
        (("sha256", "model.onnx"), None),
    ],
)
def test_wrong_values_within_an_entry_are_refused(path, value):
    manifest = copy.deepcopy(GOOD)
    *folders, last = path
    place = manifest
    for name in folders:
        place = place[name]
    place[last] = value
    assert f"its entry {path[0]} is not" in wrong_entry(manifest)


def test_outputs_and_their_ranges_are_counted():
    assert wrong_entry({**GOOD, "ranges": []}) == "it has 1 attributes, but 0 ranges"
    assert "neither" in wrong_entry({**GOOD, "classes": [], "attributes": [], "ranges": []})


def test_the_manifest_of_an_ensemble_has_members():
    good = {"members": ["member0", "member1"], "sha256": {}, "scores": None, "temperature": 1.5}
    assert good.keys() == OF_ENSEMBLE.keys()
    assert wrong_entry(good, ensemble=True) == ""
    for members in ("member0", [], [0], {"member0": 1}, None):
        assert "members" in wrong_entry({**good, "members": members}, ensemble=True)
    assert "sha256" in wrong_entry({**good, "sha256": None}, ensemble=True)
