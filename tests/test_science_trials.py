"""The figures of the trials on training speakers, and of models on the same features, are the stored ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lora import compare, summary
from deiii.model.intervals import mean_interval
from tests.helpers.markdown_tables import table_rows
from tests.helpers.science_pages import DOCS, science_text, section

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TEXT = science_text()
HIDDEN = "ravdess-speech-hidden-2026-11-28"
COPIES = "ravdess-speech-copies-2026-11-28"


@pytest.mark.parametrize(
    ("title", "folder"), [("What was tried on training actors", HIDDEN), ("Copies at other speeds", COPIES)]
)
def test_the_table_of_trials_is_the_stored_one(title, folder):
    """The rows stand in the order in which the script makes them."""
    stored = json.loads((RESULTS / folder / "tuning.json").read_text(encoding="utf-8"))["trials"]
    added = RESULTS / folder / "discriminant_tuning.json"
    if added.exists():
        stored |= json.loads(added.read_text(encoding="utf-8"))["trials"]
    expected = [
        [f"{t['balanced']['uar']:.3f}", f"{t['in order']['uar']:.3f}",
         f"{t['balanced']['loss']:.2f}; {t['in order']['loss']:.2f}"]
        for t in stored.values()
    ]  # fmt: skip
    assert [cells[1:] for cells in table_rows(section(title))] == expected


def test_the_discriminant_has_the_figures_of_its_files():
    folder = RESULTS / "emotional-av-2026-11-29"
    trials = json.loads((folder / "discriminant_tuning.json").read_text(encoding="utf-8"))["trials"]
    for t in trials:
        line = f"| {t['trial']} | {t['balance']:g} | {t['clip']['uar']:.3f} | {t['by speaker']['uar']:.3f} |"
        assert line in TEXT
    assert len(trials) == 5 and max(t["by speaker"]["uar"] for t in trials) == pytest.approx(0.797, abs=5e-4)
    white = json.loads((folder / "whitened_tuning.json").read_text(encoding="utf-8"))["trials"]
    most = [f"{max(t[level]['uar'] for t in white):.3f}" for level in ("by speaker", "clip")]
    assert len(white) == 6 and f"at most {most[0]} by speaker and {most[1]} otherwise" in TEXT
    found = [json.loads((folder / f"discriminant{how}.json").read_text()) for how in ("", "_by_speaker")]
    for (how, key), file in zip(
        ((", both", "linear_discriminant"), ("by speaker", "linear_discriminant by speaker")),
        found,
        strict=True,
    ):
        gap = file["network_minus"][f"seeds - {key}"]
        low, high = gap["ci"]
        words = f"{gap['gap']:+.3f}"
        assert re.search(rf"{re.escape(how)}:?\s+\[?{re.escape(words)}", TEXT), words
        assert f"({low:+.3f} to {high:+.3f})" in TEXT
    both, by_speaker = (
        found[0][key]["uar"] for key in ("linear_discriminant", "linear_discriminant by speaker")
    )
    assert f"{both:.3f}, by speaker {by_speaker:.3f}" in re.sub(r"\s+", " ", TEXT)
    ravdess = json.loads((RESULTS / HIDDEN / "discriminant.json").read_text(encoding="utf-8"))
    assert f"it has [{ravdess['linear_discriminant']['uar']:.3f}](" in TEXT
    for kind, words in (("seeds", "this analysis: "), ("ensemble", "five averaged ")):
        gap = ravdess["network_minus"][f"{kind} - linear_discriminant"]
        low, high = gap["ci"]
        assert f"{words}{gap['gap']:+.3f} ({low:+.3f} to {high:+.3f})" in TEXT


def test_the_trials_with_urdu_voices_are_those_of_their_files():
    stored = {}
    for urdu, name in (("no", "mix_tuning"), ("yes", "urdu_tuning")):
        file = RESULTS / f"emotional-av-mix-2026-11-27/{name}.json"
        for t in json.loads(file.read_text(encoding="utf-8"))["trials"]:
            stored[t["trial"], f"{t['weight']:g}", urdu] = [t[k]["uar"] for k in ("clip", "by speaker")]
    rows = re.findall(r"^\| ([^|]+) \| (0\.\d+) \| (no|yes) \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    for trial, weight, urdu, *figures in rows:
        assert [f"{uar:.3f}" for uar in stored[trial, weight, urdu]] == figures
    pairs = [(stored[t, w, "no"], figures) for (t, w, urdu), figures in stored.items() if urdu == "yes"]
    assert len(pairs) == 16
    weighted = [(a, b) for a, b in pairs if a != b]
    assert len(weighted) == 15 and all(a[0] > b[0] for a, b in weighted)
    assert sum(a[1] > b[1] for a, b in weighted) == 14
    trial = "SGD, 12 epochs, weight decay 0.3", "0.1"
    assert [f"{stored[*trial, urdu][1]:.3f}" for urdu in ("no", "yes")] == ["0.764", "0.767"]


def test_the_discriminant_with_voices_of_ravdess_has_the_figures_of_its_file():
    file = RESULTS / "emotional-av-mix-2026-11-27/discriminant_tuning.json"
    trials = json.loads(file.read_text(encoding="utf-8"))["trials"]
    with_voices = [t for t in trials if t["weight"]]
    assert len(with_voices) == 15 and {t["weight"] for t in with_voices} == {0.02, 0.05, 0.1}
    most = [max(t[level]["uar"] for t in with_voices) for level in ("clip", "by speaker")]
    without = max(t["by speaker"]["uar"] for t in trials if not t["weight"])
    words = f"at most {most[0]:.3f}, and by speaker at most {most[1]:.3f}; without RAVDESS's voices it has "
    assert words + f"{without:.3f}" in re.sub(r"\s+", " ", TEXT)


def test_the_trials_with_copies_of_emotional_clips_are_those_of_their_file():
    file = RESULTS / "emotional-av-mix-2026-11-27/copies_tuning.json"
    trials = json.loads(file.read_text(encoding="utf-8"))["trials"]
    stored = {
        (t["trial"], f"{t['weight']:g}", t["copies"]): [f"{t[k]['uar']:.3f}" for k in ("clip", "by copy")]
        for t in trials
    }
    rows = re.findall(
        r"^\| ([^|]+) \| (0\.\d+) \| (none|own|others) \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE
    )
    assert len(rows) == 8
    assert all(stored[trial, weight, copies] == figures for trial, weight, copies, *figures in rows)
    with_copies = [figures for (_, _, copies), figures in stored.items() if copies != "none"]
    assert len(stored) == 24 and len(with_copies) == 16
    assert max(with_copies)[0] < stored["SGD, 6 epochs, weight decay 0.3", "0.05", "none"][0]
    assert max(by_speaker for _, by_speaker in stored.values()) == "0.786"
    assert max(by_speaker for _, by_speaker in with_copies) == "0.785"


def test_the_trials_of_video_inputs_are_the_stored_ones():
    file = RESULTS / "emotional-av-scratch-2026-11-28/video_trials.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    people = stored["validation_speakers"].values()
    assert len(people) == 6 and all(len(own) == 1 for own in people)
    expected = [["as it is", f"{stored['trials'][0]['uar']:.3f}", ""]]
    for t in stored["trials"][1:]:
        low, high = t["ci"]
        assert low < 0 < high  # as the page says
        gap = round(t["minus_first"], 3) + 0  # not -0.000
        expected.append([t["trial"], f"{t['uar']:.3f}", f"{gap:+.3f} ({low:+.3f} to {high:+.3f})"])
    assert len({own[0] for own in people}) == 3  # as the page says
    assert table_rows(section("Flow of several frames, and augmented crops")) == expected


def test_the_trial_of_fine_tuning_is_the_stored_one():
    """The figures of the page follow from the predicted class of every validation clip."""
    stored = json.loads((RESULTS / "lora-2026-12-01/lora.json").read_text(encoding="utf-8"))
    runs = stored["runs"]
    for run in runs:
        labels, guess = np.array(run["labels"]), np.array(run["predicted"])
        recalls = [(guess[labels == one] == one).mean() for one in range(8)]
        assert run["uar"] == round(float(np.mean(recalls)), 4)
        assert sorted(set(run["speakers"])) == stored["validation_speakers"][str(run["fold"])]
    assert stored["summary"] == summary(runs)
    gaps = [compare(runs, *own["difference"].split(" minus ")) for own in stored["differences"]]
    assert gaps == stored["differences"]
    page = (DOCS / "howto-new-backbone.md").read_text(encoding="utf-8").split("## What LoRA changed")[1]
    expected = []
    for row in stored["summary"]:
        cells = [f"{uar:.3f}" for uar in row["uar_by_fold"]]
        if "trained_parameters" in row:
            low, high = row["train_seconds_of_an_epoch"]
            cells += [f"{row['trained_parameters']:,}", f"{low:.0f} to {high:.0f}"]
            cells += [f"{row['peak_memory_mib'] / 1024:.1f} GiB"]
        else:
            cells += [""] * 3
        expected.append(cells)
    assert [cells[1:] for cells in table_rows(page)] == expected
    words = " ".join(page.split())
    for gap in gaps:
        low, high = gap["ci"]
        assert f"{gap['uar']:+.3f} ({low:+.3f} to {high:+.3f})" in words
    check = stored["check"]
    assert max(check["float32 against the ONNX file without rounding"]["relative_error"]) < 1e-5
    rounded = check["float32 against the ONNX file"]["correlation"]
    assert "correlations of the four layers: " + ", ".join(f"{x:.2f}" for x in rounded) in words


def test_the_trials_of_the_preset_base_are_the_stored_ones():
    folder = RESULTS / "preset-base-2026-12-01"
    six, two = (
        json.loads((folder / f"preset_trials{name}.json").read_text(encoding="utf-8"))
        for name in ("", "_first")
    )
    expected = []
    for t in (*six["trials"], two["trials"][1]):
        gap = t.get("ci")
        words = f"{t['minus_first']:+.3f} ({gap[0]:+.3f} to {gap[1]:+.3f})" if gap else ""
        expected.append([t["trial"], ", ".join(f"{x:.3f}" for x in t["by_fold"]), f"{t['uar']:.3f}", words])
    text = section("The preset `base` on these voices")
    assert table_rows(text) == expected
    assert six["trials"][1]["ci"][0] > 0  # as the page states
    both = [np.array(trial["by_fold"]) for trial in six["trials"]]
    assert min(both[1] - both[0]) > 0
    low, high = mean_interval((both[1] - both[0])[:4].tolist())
    assert f"Four folds gave {np.mean((both[1] - both[0])[:4]):+.3f} ({low:+.3f} to {high:+.3f})" in text
    people = {name for own in six["validation_speakers"].values() for name in own}
    assert f"({len(people)} different actors;" in text
