"""Which speaker and label `deiii init` reads from folders and names, over many layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.init.folders import guess, read_layout
from deiii.pipeline.init.found import UNKNOWN, InitError
from deiii.pipeline.init.look import look

PEOPLE = ("anna", "ben", "cleo")
EMOTIONS = ("happy", "sad", "angry")


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def every(template: str, people=PEOPLE, emotions=EMOTIONS, takes=(1, 2)) -> list[str]:
    return [template.format(p=p, e=e, n=n) for p in people for e in emotions for n in takes]


def triples(found) -> set[tuple[str, str, str]]:
    return {(row.path, row.speaker, row.label) for row in found.rows}


KNOWN_SPEAKERS = [
    ("{p}/{e}/{n}.mp4", "speaker/label/clip"),
    ("{e}/{p}/{n}.mp4", "label/speaker/clip"),
    ("videos/{p}/{e}/{n}.mov", "folder/speaker/label/clip"),
    ("train/{p}/{e}/{n}.mp4", "part/speaker/label/clip"),
    ("{p}/{e}_{n}.wav", "speaker/label_..."),
    ("{p}/take{n}_{e}.wav", "speaker/x_label_..."),
    ("{p}_{e}_{n}.mp4", "speaker_label_..."),
    ("{p}-{e}-{n}.mp4", "speaker_label_..."),
    ("{e} {p} {n}.mp4", "label_speaker_..."),
]


@pytest.mark.parametrize(("template", "words"), KNOWN_SPEAKERS)
def test_speaker_and_label_are_found(template, words, tmp_path):
    paths = every(template)
    found = look(touch(tmp_path, *paths))
    assert found.how == f"layout {words}"
    expected = {(template.format(p=p, e=e, n=n), p, e) for p in PEOPLE for e in EMOTIONS for n in (1, 2)}
    assert triples(found) == expected


@pytest.mark.parametrize(("template", "words"), KNOWN_SPEAKERS)
def test_the_words_of_a_layout_describe_it(template, words):
    """What a guess prints can be given to --layout, except where the name is open at its end."""
    layout = read_layout(words.replace("_...", "_x"))
    path = template.format(p="anna", e="happy", n=2)
    assert layout.read(path) == ("anna", "happy")


@pytest.mark.parametrize(
    "template", ["{e}/{p}{n}.mp4", "{e}/clip_{p}{n}.wav", "audio/{e}/{n}{p}.mp4", "{e}/{p}_{n}.mp4"]
)
def test_unknown_speakers_are_one_for_each_clip_and_the_note_says_what_that_means(template, tmp_path):
    paths = every(template)
    found = look(touch(tmp_path, *paths))
    assert {row.label for row in found.rows} == set(EMOTIONS)
    speakers = [row.speaker for row in found.rows]
    assert len(set(speakers)) == len(paths) and all(s.startswith(UNKNOWN) for s in speakers)
    note = " ".join(found.notes)
    assert "speaker of a clip is not known" in note and "scores are then too high" in note


def test_the_name_of_an_unknown_speaker_does_not_depend_on_other_clips(tmp_path):
    few = look(touch(tmp_path / "a", "happy/1.mp4", "sad/1.mp4"))
    more = look(touch(tmp_path / "b", "happy/0.mp4", "happy/1.mp4", "sad/1.mp4"))
    assert triples(few) < triples(more)


@pytest.mark.parametrize("people", [("s1", "s2", "s10"), ("Actor_01", "Actor_02"), ("spk-3", "spk-4")])
def test_numbered_speakers_in_names_are_found_beside_folders_of_labels(people, tmp_path):
    paths = every("{e}/{n}/{p}_{n}.wav".replace("{n}/", ""), people)
    found = look(touch(tmp_path, *paths))
    expected = {p.split("_")[0].split("-")[0] if "_" in p or "-" in p else p for p in people}
    if len(expected) == 1:  # Actor_01: the number is a part of its own, so that nothing is guessed
        assert all(row.speaker.startswith(UNKNOWN) for row in found.rows)
    else:
        assert {row.speaker for row in found.rows} == expected


def test_a_pattern_finds_speakers(tmp_path):
    paths = every("{e}/{p}{n}.mp4")
    found = look(touch(tmp_path, *paths), speaker=r"/([a-z]+)\d")
    assert {row.speaker for row in found.rows} == set(PEOPLE)
    with pytest.raises(InitError, match="--speaker finds nothing in 6 of 18 paths, first angry/ben1"):
        look(tmp_path, speaker="anna|cleo")
    with pytest.raises(InitError, match="is not a regular expression"):
        look(tmp_path, speaker="(")


@pytest.mark.parametrize(
    "paths",
    [
        every("{p}/{e}/{n}.mp4", emotions=("stressed", "relaxed")),  # no emotion, two levels
        every("{p}/day{n}x/{e}.mp4", emotions=("a1", "b2")),
        [f"clip{n}.mp4" for n in range(9)],
        every("{p}/{n}.mp4", people=("s1", "s2")),  # speakers, and nothing that says the label
    ],
)
def test_what_is_not_clear_is_refused_with_the_remedy(paths, tmp_path):
    with pytest.raises(InitError, match="--layout speaker/label/clip"):
        look(touch(tmp_path, *paths))


def test_a_layout_that_is_given_wins(tmp_path):
    paths = every("{p}/{e}/{n}.mp4", emotions=("stressed", "relaxed"))
    found = look(touch(tmp_path, *paths), layout="speaker/label/clip")
    assert {(row.speaker, row.label) for row in found.rows} == {
        (p, e) for p in PEOPLE for e in ("stressed", "relaxed")
    }
    found = look(tmp_path, layout="label/speaker/clip")
    assert {row.label for row in found.rows} == set(PEOPLE)


@pytest.mark.parametrize(
    ("layout", "words"),
    [("speaker/clip", "no word label"), ("label/label/clip", "twice"), ("label_label", "twice")],
)
def test_a_layout_without_label_is_refused(layout, words):
    with pytest.raises(InitError, match=words):
        read_layout(layout)


def test_recordings_elsewhere_are_named_and_many_of_them_are_refused(tmp_path):
    paths = every("{p}/{e}/{n}.mp4")
    found = look(touch(tmp_path, *paths, "intro.mp4"))
    assert len(found.rows) == len(paths) and "left out" in found.notes[0] and "intro.mp4" in found.notes[0]
    assert "move it into the layout" in found.notes[0] and "add its row to clips.csv" in found.notes[0]
    several = look(touch(tmp_path / "more", *paths, "intro.mp4", "outro.mp4"))
    assert (
        "move them into the layout" in several.notes[0] and "add their rows to clips.csv" in several.notes[0]
    )
    with pytest.raises(InitError, match="do not fit the layout"):
        look(touch(tmp_path, *[f"{n}.mp4" for n in range(9)]))


def test_a_video_and_its_sound_are_one_clip(tmp_path):
    paths = every("{p}/{e}/{n}.mp4")
    found = look(touch(tmp_path, *paths, *[p.replace(".mp4", ".wav") for p in paths]))
    assert {row.path for row in found.rows} == set(paths)
    assert "beside a video" in found.notes[0]


def test_hidden_files_of_macos_are_no_recordings(tmp_path):
    paths = every("{p}/{e}/{n}.mp4")
    found = look(touch(tmp_path, *paths, "anna/happy/._1.mp4", "__MACOSX/anna/happy/1.mp4"))
    assert {row.path for row in found.rows} == set(paths)


def test_an_empty_folder_says_what_is_there(tmp_path):
    touch(tmp_path, "clips.zip")
    with pytest.raises(InitError, match=r"1 \.zip \(unpack it first\)"):
        look(tmp_path)


words = st.text("bcdfghjklmnp", min_size=3, max_size=6)


@given(st.sets(words, min_size=2, max_size=5), st.sets(st.sampled_from(EMOTIONS + ("fear",)), min_size=2))
def test_any_names_of_speakers_are_read_from_either_order(people, emotions):
    """Speakers of any name and folders of emotions: either order, and a constant folder above."""
    for template in ("{p}/{e}/{n}.mp4", "{e}/{p}/{n}.mp4", "all/{p}/{e}/{n}.mp4"):
        paths = every(template, sorted(people), sorted(emotions))
        found = guess(sorted(paths))
        assert {(row.speaker, row.label) for row in found.rows} == {(p, e) for p in people for e in emotions}


@pytest.mark.parametrize(
    ("name", "told"), [("more.zip", True), ("Actor_02.tar.gz", True), ("Thumbs.db", False)]
)
def test_archives_beside_the_recordings_are_told(tmp_path, name, told):
    found = look(touch(tmp_path, *every("{p}/{e}/{n}.mp4"), name))
    assert len(found.rows) == 18
    assert any("unpack it first" in note for note in found.notes) == told


@pytest.mark.parametrize(
    ("template", "guessed", "option"),
    [
        ("{p}/happy/{n}.mp4", "label/folder/clip", "--layout speaker/label/clip"),
        ("happy/{p}/{n}.mp4", "folder/label/clip", "--layout label/speaker/clip"),
        ("train/{p}/happy/{n}.mp4", "part/label/folder/clip", "--layout part/speaker/label/clip"),
        ("{p}/{n}.mp4", "label/clip", "--layout"),
    ],
)
def test_labels_that_are_no_emotions_are_noted_with_the_option_for_another_layout(
    template, guessed, option, tmp_path
):
    """One emotion alone cannot be told from a folder of another kind, so names of people become labels."""
    paths = [template.format(p=p, n=n) for p in PEOPLE for n in (1, 2)]
    root = touch(tmp_path, *paths)
    found = look(root)
    (note,) = [note for note in found.notes if "few are emotions" in note]
    assert found.how == f"layout {guessed}" and "anna: 2 clips, ben: 2, cleo: 2" in note
    assert note.endswith(f"give {option}")
    if " " in option:
        other = look(root, layout=option.split()[1])
        assert triples(other) == {(path, p, "happy") for path in paths for p in PEOPLE if p in path}


def test_one_emotion_for_each_speaker(tmp_path):
    places = list(zip(PEOPLE, EMOTIONS, strict=True))
    root = touch(tmp_path, *(f"{p}/{e}/{n}.mp4" for p, e in places for n in (1, 2)))
    found = look(root)
    assert found.how == "layout speaker/label/clip"
    assert {(row.speaker, row.label) for row in found.rows} == set(places)
