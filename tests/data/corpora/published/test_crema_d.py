"""CREMA-D: layouts, acted labels, and those of raters from either rating table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.published.crema_d import BROKEN, CLASSES
from deiii.data.corpora.scan import scan
from tests.helpers.layouts import place

SUMMARY = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
TABULATED = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'


def config(root: Path, labels: str = "acted") -> CorpusConfig:
    return CorpusConfig(name="crema_d", root=str(root), labels=labels)


def write(root: Path, name: str, text: str, folder: str = "processedResults") -> None:
    (root / folder).mkdir(exist_ok=True)
    (root / folder / name).write_text(text)


@pytest.mark.parametrize(
    "path",
    [
        "VideoFlash/1001_DFA_ANG_XX.flv",
        "VideoMP4/1001_DFA_ANG_XX.mp4",
        "1001_DFA_ANG_XX.MP4",
        "AudioWAV/1001_DFA_ANG_XX.wav",
    ],
)
def test_layouts(tmp_path, path):
    place(tmp_path, path)
    (clip,) = scan(config(tmp_path)).clips
    assert (clip.id, clip.path, clip.speaker, clip.label) == ("1001_DFA_ANG_XX", path, "1001", "angry")
    assert clip.soft is None and clip.note == ""


def test_acted_labels(tmp_path):
    for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
        place(tmp_path, f"1001_DFA_{code}_HI.mp4")
    corpus = scan(config(tmp_path))
    assert [c.label for c in corpus.clips] == ["angry", "disgust", "fearful", "happy", "neutral", "sad"]
    assert corpus.protocol == "crema_d-5fold"


def test_one_file_a_clip(tmp_path):
    for path in (
        "VideoFlash/1001_DFA_ANG_XX.flv",
        "VideoMP4/1001_DFA_ANG_XX.mp4",
        "VideoFlash/1002_DFA_ANG_XX.flv",
    ):
        place(tmp_path, path)
    place(tmp_path, "AudioWAV/1003_DFA_ANG_XX.wav")
    paths = [c.path for c in scan(config(tmp_path)).clips]
    assert paths == ["VideoMP4/1001_DFA_ANG_XX.mp4", "VideoFlash/1002_DFA_ANG_XX.flv"]


def test_the_short_name_of_the_release(tmp_path):
    place(tmp_path, "VideoFlash/1040_ITH_SAD_X.flv")
    assert scan(config(tmp_path)).clips[0].id == "1040_ITH_SAD_XX"


def test_broken_clips_stay_with_a_note(tmp_path):
    for name in (*BROKEN, "1001_DFA_ANG_XX"):
        place(tmp_path, f"VideoFlash/{name}.flv")
    notes = {c.id: c.note for c in scan(config(tmp_path)).clips}
    assert len(notes) == 5
    assert [i for i, note in notes.items() if note] == sorted(BROKEN)


def test_perceived_from_the_summary_splits_ties_evenly(tmp_path):
    for name in ("1001_DFA_ANG_XX", "1001_IWW_FEA_XX", "1001_ITH_SAD_XX"):
        place(tmp_path, f"VideoFlash/{name}.flv")
    write(
        tmp_path,
        "summaryTable.csv",
        SUMMARY
        + '"1","1001_DFA_ANG_XX","N","66","D","54","H","60"\n'  # voice, face, and both: H counts
        + '"2","1001_IWW_FEA_XX","A","49","A","67","A:N","70.25:10.00"\n',
    )
    by_id = {c.id: c for c in scan(config(tmp_path, "perceived")).clips}
    assert by_id["1001_DFA_ANG_XX"].label == "happy"
    assert by_id["1001_DFA_ANG_XX"].soft == (0, 0, 0, 1, 0, 0)
    assert by_id["1001_IWW_FEA_XX"].label is None
    assert by_id["1001_IWW_FEA_XX"].soft == (0.5, 0, 0, 0, 0.5, 0)
    assert by_id["1001_ITH_SAD_XX"].label is None
    assert by_id["1001_ITH_SAD_XX"].soft is None
    assert "rating tables" in by_id["1001_ITH_SAD_XX"].note


def test_perceived_from_the_votes_are_shares_of_the_multimodal_ones(tmp_path):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    place(tmp_path, "VideoFlash/1001_DFA_SAD_XX.flv")
    write(
        tmp_path,
        "tabulatedVotes.csv",
        TABULATED
        + '"100001",9,0,0,0,0,0,"1001_DFA_ANG_XX",9,1,"A"\n'
        + '"200001",0,9,0,0,0,0,"1001_DFA_ANG_XX",9,1,"D"\n'
        + '"300001",1,0,6,0,1,0,"1001_DFA_ANG_XX",8,0.75,"F"\n'
        + '"300002",0,0,0,0,5,5,"1001_DFA_SAD_XX",10,0.5,"N:S"\n',
    )
    write(tmp_path, "summaryTable.csv", "not read where the votes are there\n")
    first, second = scan(config(tmp_path, "perceived")).clips
    assert first.label == "fearful"
    assert first.soft == (0.125, 0, 0.75, 0, 0.125, 0)
    assert second.label is None
    assert sum(second.soft) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
        (SUMMARY + '"1","1001_DFA_ANG_XX","N","1","N","1","Q","1"\n', "row 2: unknown vote 'Q'"),
        (SUMMARY + '"1","1001_DFA_ANG_XX"\n', "row 2"),
        (SUMMARY + '"1","1099_DFA_ANG_XX","N","1","N","1","N","1"\n', "name no clip of the 1"),
        (
            SUMMARY + '"1","1001_DFA_ANG_XX","N","1","N","1","N","1"\n' * 2,
            "row 3: .* is there twice",
        ),
    ],
)
def test_bad_tables(tmp_path, text, message):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    write(tmp_path, "summaryTable.csv", text)
    with pytest.raises(CorpusError, match=message):
        scan(config(tmp_path, "perceived"))


def test_a_table_in_another_encoding_is_named_with_what_to_do(tmp_path):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    write(tmp_path, "summaryTable.csv", SUMMARY)
    table = next(tmp_path.rglob("summaryTable.csv"))
    table.write_bytes(SUMMARY.encode() + b"\xe9")
    with pytest.raises(CorpusError, match=r"summaryTable\.csv is not UTF-8 text.*download it again"):
        scan(config(tmp_path, "perceived"))


@pytest.mark.parametrize("row", ["-1,2,0,0,0,0", "0,0,0,0,0,0", "x,0,0,0,0,0"])
def test_bad_votes(tmp_path, row):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    write(tmp_path, "tabulatedVotes.csv", TABULATED + f'"300001",{row},"1001_DFA_ANG_XX",1,1,"A"\n')
    with pytest.raises(CorpusError, match="row 2"):
        scan(config(tmp_path, "perceived"))


def test_refusals(tmp_path):
    with pytest.raises(CorpusError, match="VideoFlash/1001_DFA_ANG_XX.flv"):
        scan(config(tmp_path))
    place(tmp_path, "a/1001_DFA_ANG_XX.mp4")
    with pytest.raises(CorpusError, match=r"tabulatedVotes\.csv or summaryTable\.csv"):
        scan(config(tmp_path, "perceived"))
    place(tmp_path, "b/1001_DFA_ANG_XX.mp4")
    with pytest.raises(CorpusError, match="there twice"):
        scan(config(tmp_path))


@pytest.mark.parametrize(
    ("labels", "column", "agreement", "ties"),
    [
        ("voice", "VoiceVote", 41.6, 644),
        ("face", "FaceVote", 66.3, 470),
        ("multimodal", "MultiModalVote", 72.2, 420),
        ("perceived", "MultiModalVote", 72.2, 420),
    ],
)
def test_the_published_summary(test_data, tmp_path, labels, column, agreement, ties):
    """The majority's agreement with the acted emotion, and the ties, as published figures give them."""
    table = test_data / "media/crema_d_tables/summaryTable.csv"
    with table.open(newline="") as file:
        winners = {r["FileName"]: r[column].split(":") for r in csv.DictReader(file)}
    assert len(winners) == 7442
    (tmp_path / "summaryTable.csv").symlink_to(table)
    (tmp_path / "AudioWAV").mkdir()
    for name in winners:
        (tmp_path / f"AudioWAV/{name}.wav").touch()
    corpus = scan(config(tmp_path, labels))
    letters = dict(zip(CLASSES, "ADFHNS", strict=True))
    for clip in corpus.clips:
        assert sum(clip.soft) == pytest.approx(1)
        shown = {letters[name] for name, share in zip(CLASSES, clip.soft, strict=True) if share}
        assert shown == set(winners[clip.id])
    acted = {c.id: c.label for c in scan(config(tmp_path)).clips}
    same = sum(c.label == acted[c.id] for c in corpus.clips)
    assert round(100 * same / 7442, 1) == agreement
    assert sum(c.label is None for c in corpus.clips) == ties
    assert f"raters tie in {ties} of 7442 clips" in corpus.notes[0]
    assert round(100 * 420 / 7442, 1) == 5.6


@pytest.mark.parametrize(
    ("labels", "expected"), [("voice", "neutral"), ("face", "disgust"), ("multimodal", "happy")]
)
def test_each_channel_has_its_own_votes(tmp_path, labels, expected):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    write(tmp_path, "summaryTable.csv", SUMMARY + '"1","1001_DFA_ANG_XX","N","66","D","54","H","60"\n')
    corpus = scan(config(tmp_path, labels))
    assert corpus.clips[0].label == expected
    assert corpus.votes == "winners" and set(corpus.clips[0].votes) == {"voice", "face", "multimodal"}


def test_acted_labels_need_no_table_and_keep_the_votes_of_one(tmp_path, caplog):
    place(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    write(tmp_path, "summaryTable.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    corpus = scan(config(tmp_path))
    assert corpus.clips[0].label == "angry" and not corpus.votes
    assert "Git LFS" in caplog.text
    write(tmp_path, "summaryTable.csv", SUMMARY + '"1","1001_DFA_ANG_XX","N","66","D","54","H","60"\n')
    corpus = scan(config(tmp_path))
    assert corpus.clips[0].soft is None
    assert corpus.clips[0].votes["face"] == (0, 1, 0, 0, 0, 0)


def test_recordings_that_are_no_clips_are_named(tmp_path, caplog):
    for path in (
        "1001_DFA_ANG_XX.flv",
        "1001_DFA_ANG_XX (1).flv",
        "1001_DFA_ANG_XX.wav",
        "1002_DFA_ANG_XX.wav",
    ):
        place(tmp_path, path)
    assert len(scan(config(tmp_path)).clips) == 1
    assert "1 file left out, with names unlike 1001_DFA_ANG_XX.flv: 1001_DFA_ANG_XX (1).flv" in caplog.text
    assert "audio of clips without a video, while other clips have one: 1002_DFA_ANG_XX.wav" in caplog.text
