"""MSP-IMPROV: names with two prefixes, the evaluation file, and the direction of activation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.scan import scan
from tests.helpers.layouts import decodes, place
from tests.helpers.session_folds import check_session_folds

RATERS = (
    "rater-1_a; Angry; Angry,Frustrated; A:1.000000; V:2.000000; D:2.000000; N:4.000000;\n"
    "rater-2_b; Other; bored,; A:2.000000; V:3.000000; D:2.000000; N:4.000000;\n\n"
)


def config(root: Path) -> CorpusConfig:
    return CorpusConfig(name="msp_improv", root=str(root))


def line(clip_id: str, letter: str = "A", a="1.500000", v="4.250000", d="3.000000") -> str:
    return f"UTD-IMPROV-{clip_id}.avi; {letter}; A:{a}; V:{v}; D:{d} ; N:3.500000;\n" + RATERS


def path_of(clip_id: str) -> str:
    sentence, actor, kind, _ = clip_id.split("-")
    return f"session{int(actor[1:])}/{sentence}/{kind}/MSP-IMPROV-{clip_id}.avi"


def build(root: Path, clips: dict[str, str], table: str = "Evalution.txt") -> None:
    for clip_id in clips:
        place(root, path_of(clip_id))
    (root / table).write_text("".join(clips.values()))


@pytest.mark.parametrize("table", ["Evalution.txt", "Evaluation.txt"])
def test_clips(tmp_path, table):
    ids = ["S01A-F01-P-FM01", "S20H-M06-R-MM01"]
    build(tmp_path, {ids[0]: line(ids[0]), ids[1]: line(ids[1], "H")}, table)
    assert decodes(tmp_path / path_of(ids[0]))[0] == 5
    corpus = scan(config(tmp_path))
    first, second = corpus.clips
    assert (first.id, first.path) == (ids[0], path_of(ids[0]))
    assert (first.speaker, first.fold, first.label) == ("F01", "session1", "angry")
    assert (second.speaker, second.fold, second.label) == ("M06", "session6", "happy")
    assert first.attributes == {"arousal": 4.5, "valence": 4.25, "dominance": 3.0}
    assert corpus.ranges == {"arousal": (1, 5), "valence": (1, 5), "dominance": (1, 5)}
    assert corpus.classes == ("angry", "happy", "neutral", "sad")


@pytest.mark.parametrize("letter", ["O", "X"])
def test_no_class_keeps_attributes(tmp_path, letter):
    clip_id = "S01A-F01-P-FM01"
    build(tmp_path, {clip_id: line(clip_id, letter, v="NaN")})
    (clip,) = scan(config(tmp_path)).clips
    assert clip.label is None
    assert clip.attributes == {"arousal": 4.5, "dominance": 3.0}


def test_either_prefix_on_disk(tmp_path):
    place(tmp_path, "session1/S01A/P/UTD-IMPROV-S01A-F01-P-FM01.avi")
    (tmp_path / "Evaluation.txt").write_text(line("S01A-F01-P-FM01").replace("UTD", "MSP"))
    assert scan(config(tmp_path)).clips[0].label == "angry"


def test_video_before_sound(tmp_path):
    clip_id = "S01A-F01-P-FM01"
    build(tmp_path, {clip_id: line(clip_id)})
    place(tmp_path, path_of(clip_id).replace(".avi", ".wav"))
    assert [c.path for c in scan(config(tmp_path)).clips] == [path_of(clip_id)]


def test_rated_without_file_and_file_without_rating(tmp_path, caplog):
    build(tmp_path, {"S01A-F01-P-FM01": line("S01A-F01-P-FM01")})
    with (tmp_path / "Evalution.txt").open("a") as file:
        file.write(line("S01A-F01-P-FM02") + line("S01A-F05-P-FM02"))
    place(tmp_path, path_of("S02S-M01-T-MF001"))
    clips = {c.id: c for c in scan(config(tmp_path)).clips}
    # session 5 is not on disk at all: its clips are not looked for
    assert sorted(clips) == ["S01A-F01-P-FM01", "S01A-F01-P-FM02", "S02S-M01-T-MF001"]
    assert clips["S01A-F01-P-FM02"].path == path_of("S01A-F01-P-FM02")
    assert "1 rated clip has no file: S01A-F01-P-FM02" in caplog.text
    assert clips["S02S-M01-T-MF001"].label is None
    assert clips["S02S-M01-T-MF001"].note


def test_activation_runs_from_active_to_passive(tmp_path):
    clips = {
        i: line(i, "A", a=f"{a:.6f}") for i, a in {"S01A-F01-P-FM01": 1.5, "S01A-F01-P-FM02": 4.0}.items()
    }
    build(tmp_path, clips)
    assert [c.attributes["arousal"] for c in scan(config(tmp_path)).clips] == [4.5, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "holds no line"),
        (line("S01A-F01-P-FM01", "Q"), "line 1: unknown class 'Q'"),
        (line("S01A-F01-P-FM01", a="7.0"), "outside 1 to 5"),
        (line("S01A-F01-P-FM01", a="inf"), "outside 1 to 5"),
        (line("S01A-F01-P-FM01", v="high"), "line 1"),
        (line("S01A-F01-P-FM01") + line("S01A-F01-P-FM01", "S"), "line 5: a second, different"),
        (line("S01A-F01-P-FM09"), r"rates none of the clips \(1\), such as"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    build(tmp_path, {"S01A-F01-P-FM01": text})
    with pytest.raises(CorpusError, match=message):
        scan(config(tmp_path))


def test_refusals(tmp_path):
    with pytest.raises(CorpusError, match="session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.avi"):
        scan(config(tmp_path))
    place(tmp_path, path_of("S01A-F01-P-FM01"))
    with pytest.raises(CorpusError, match=r"Evalution\.txt or Evaluation\.txt"):
        scan(config(tmp_path))


def test_one_session_is_left_out_and_sessions_stay_whole(tmp_path):
    ids = [f"S01A-{sex}{n:02d}-P-{sex}M01" for n in range(1, 7) for sex in "FM"]
    build(tmp_path, {i: line(i) for i in ids})
    corpus = scan(config(tmp_path))
    assert check_session_folds(corpus, lambda n: (f"F{n:02d}", f"M{n:02d}"), lambda name: name[1:]) == 6


def table_of(active: float, sad: float, published: str = "") -> str:
    """A table of 24 clips whose angry and happy clips have one mean activation and sad ones another."""
    rows = [
        line(f"S{n:02d}A-F01-P-FM02", "AH"[n % 2], a=f"{active + 0.1 * (-1) ** n:.3f}") for n in range(1, 13)
    ]
    rows += [line(f"S{n:02d}S-F01-P-FM02", "S", a=f"{sad + 0.1 * (-1) ** n:.3f}") for n in range(1, 13)]
    return "".join(rows) + published


@pytest.mark.parametrize(
    ("active", "sad", "arousal", "words"),
    [
        (
            2.0,
            3.5,
            4.0,
            "is 2.00 for angry and happy clips and 3.50 for sad ones, so low values are",
        ),
        (3.9, 2.2, 3.9, "so high values are active: arousal is A;"),
        (
            3.0,
            3.01,
            3.0,
            "does not tell its direction; low values are taken as active, arousal is 6 - A",
        ),
    ],
)
def test_direction_of_activation_is_that_of_angry_happy_and_sad_clips(tmp_path, active, sad, arousal, words):
    place(tmp_path, path_of("S02A-F01-P-FM02"))
    (tmp_path / "Evalution.txt").write_text(table_of(active, sad))
    corpus = scan(config(tmp_path))
    (note,) = corpus.notes
    assert (
        words in note and "S01A-F01-P-FM01, of which A 2.0, V 2.8, D 2.8 are published, is not in it" in note
    )
    clip = next(c for c in corpus.clips if c.id == "S02A-F01-P-FM02")
    offset = 0.1 if "arousal is A;" in note else -0.1
    assert clip.attributes["arousal"] == pytest.approx(arousal + offset)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            ("2.000000", "2.800000", "2.800000"),
            "A 2.00, V 2.80, D 2.80 there, .*have the table's direction",
        ),
        (("4.000000", "2.800000", "2.800000"), "the published activation runs the other way"),
        (("2.250000", "2.500000", "2.750000"), "are not the same ratings"),
        (("NaN", "2.800000", "2.800000"), "has V 2.80, D 2.80 there.*are not the same ratings"),
    ],
)
def test_the_published_clip_is_compared(tmp_path, values, words):
    clip_id = "S01A-F01-P-FM01"
    place(tmp_path, path_of(clip_id))
    (tmp_path / "Evalution.txt").write_text(table_of(2.0, 3.5, line(clip_id, "A", *values)))
    (note,) = scan(config(tmp_path)).notes
    assert re.search(words, note)


def test_a_small_table_says_that_nothing_was_checked(tmp_path):
    build(tmp_path, {"S01A-F01-P-FM01": line("S01A-F01-P-FM01")})
    (note,) = scan(config(tmp_path)).notes
    assert "is not checked, because it rates only 1 angry or happy and 0 sad clips" in note


def test_files_and_ratings_that_are_no_clips_are_named(tmp_path, caplog):
    first, sound, elsewhere = "S01A-F01-P-FM01", "S01H-F01-P-FM01", "S01A-F05-P-FM02"
    build(tmp_path, {first: line(first), elsewhere: line(elsewhere)})
    (tmp_path / path_of(elsewhere)).unlink()
    place(tmp_path, path_of(first).replace(".avi", "_2.avi"))
    place(tmp_path, path_of(sound).replace(".avi", ".wav"))
    with (tmp_path / "Evalution.txt").open("a") as file:
        file.write(line("S01Q-F01-P-FM01"))
    assert [clip.id for clip in scan(config(tmp_path)).clips] == [first]
    assert "1 file left out, with names unlike MSP-IMPROV-S01A-F01-P-FM01.avi: " in caplog.text
    assert (
        f"audio of clips without a video, while other clips have one: session1/S01H/P/MSP-IMPROV-{sound}"
        in (caplog.text)
    )
    assert f"1 rated clip left out, because their sessions have no file at all: {elsewhere}" in caplog.text
    assert "left out 1 line that names no clip of the corpus: line 9 (UTD-IMPROV-S01Q-F01" in caplog.text
