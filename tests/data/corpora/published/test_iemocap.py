"""IEMOCAP: turns, their speakers, and the evaluation files, on a miniature of the published layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.data.audit.names import facts_of
from deiii.data.config.load import load_config
from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.targets.classes import map_classes
from deiii.pipeline.init.known import known_corpus
from tests.helpers.layouts import decodes, place
from tests.helpers.session_folds import check_session_folds

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"


def config(root: Path) -> CorpusConfig:
    return CorpusConfig(name="iemocap", root=str(root))


def wav_of(turn: str) -> str:
    return f"Session{int(turn[3:5])}/sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"


def line(turn: str, code: str = "neu", means: str = "2.5000, 3.5000, 4.0000") -> str:
    return f"[6.2901 - 8.2357]\t{turn}\t{code}\t[{means}]\n{RATERS}"


def rate(root: Path, dialogue: str, text: str) -> Path:
    table = root / f"Session{int(dialogue[3:5])}/dialog/EmoEvaluation/{dialogue}.txt"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(HEADER + text)
    return table


def build(root: Path, turns: dict[str, str]) -> None:
    dialogues: dict[str, str] = {}
    for turn, text in turns.items():
        place(root, wav_of(turn))
        dialogue = turn.rpartition("_")[0]
        dialogues[dialogue] = dialogues.get(dialogue, "") + text
    for dialogue, text in dialogues.items():
        rate(root, dialogue, text)


def test_clips(tmp_path, caplog):
    """The files that lie beside the turns in the release are passed over without a word."""
    turns = {
        "Ses01F_impro01_M003": line("Ses01F_impro01_M003", "exc"),
        "Ses05M_script01_1b_F001": line("Ses05M_script01_1b_F001", "fru", "1.0000, 5.0000, 3.3333"),
    }
    build(tmp_path, turns)
    for name in ("wav/Ses01F_impro01.wav", "avi/DivX/Ses01F_impro01.avi", "wav/._Ses01F_impro01.wav"):
        place(tmp_path, f"Session1/dialog/{name}")
    evaluation = tmp_path / "Session1/dialog/EmoEvaluation"
    (evaluation / "._Ses01F_impro01.txt").write_bytes(b"\0\5\26\7")
    (evaluation / "Categorical").mkdir()
    (evaluation / "Categorical/Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_M003 :Neutral; ()\n")
    corpus = scan(config(tmp_path))
    first, second = corpus.clips
    assert decodes(tmp_path / first.path)[1] > 0
    assert (first.id, first.path) == ("Ses01F_impro01_M003", wav_of("Ses01F_impro01_M003"))
    assert (first.speaker, first.sex, first.fold, first.label) == ("Ses01M", "male", "session1", "excited")
    assert (second.speaker, second.sex, second.fold, second.label) == (
        "Ses05F", "female", "session5", "frustrated",
    )  # fmt: skip
    assert first.attributes == {"valence": 2.5, "arousal": 3.5, "dominance": 4.0}
    assert corpus.ranges == {"valence": (1, 5), "arousal": (1, 5), "dominance": (1, 5)}
    assert not caplog.records and not corpus.notes


@pytest.mark.parametrize("code", ["xxx", "oth"])
def test_no_class_keeps_attributes(tmp_path, code):
    build(tmp_path, {"Ses01F_impro01_F000": line("Ses01F_impro01_F000", code)})
    (clip,) = scan(config(tmp_path)).clips
    assert clip.label is None and len(clip.attributes) == 3


def test_means_beyond_the_scale_are_left_out_and_named(tmp_path):
    build(tmp_path, {"Ses01F_impro01_F000": line("Ses01F_impro01_F000", means="2.5000, 5.5000, 0.5")})
    corpus = scan(config(tmp_path))
    assert corpus.clips[0].attributes == {"valence": 2.5}
    (note,) = corpus.notes
    assert "Ses01F_impro01_F000 arousal 5.5" in note and "Ses01F_impro01_F000 dominance 0.5" in note


def test_the_usual_four_classes(tmp_path):
    codes = ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "xxx")
    turns = [f"Ses01F_impro05b_F{n:03d}" for n in range(len(codes))]
    build(tmp_path, {t: line(t, code) for t, code in zip(turns, codes, strict=True)})
    settings = load_config(["iemocap"], [f"corpus.root={tmp_path}"])
    corpus = map_classes(scan(settings.corpus), settings.corpus.classes)
    assert sorted(corpus.classes) == ["angry", "happy", "neutral", "sad"]
    labels = [clip.label for clip in corpus.clips]
    assert labels == ["angry", "happy", "happy", "sad", "neutral", None, None, None]


def test_a_folder_above_the_corpus_and_a_rated_turn_without_file(tmp_path, caplog):
    root = tmp_path / "IEMOCAP_full_release"
    build(root, {"Ses02F_impro01_F000": line("Ses02F_impro01_F000") + line("Ses02F_impro01_M001")})
    rate(root, "Ses03F_impro01", line("Ses03F_impro01_F000"))
    clips = {c.id: c for c in scan(config(tmp_path)).clips}
    # session 3 is not on disk at all: its turns are not looked for
    assert sorted(clips) == ["Ses02F_impro01_F000", "Ses02F_impro01_M001"]
    assert clips["Ses02F_impro01_M001"].path == f"IEMOCAP_full_release/{wav_of('Ses02F_impro01_M001')}"
    assert "Ses02F_impro01_M001" in caplog.text and "Ses03F_impro01_F000" in caplog.text


@pytest.mark.parametrize(
    ("absent", "words"), [(1, "iemocap: 1 rated turn has no file:"), (2, "2 rated turns have no file:")]
)
def test_the_number_of_rated_turns_without_file(tmp_path, caplog, absent, words):
    rated = "".join(line(f"Ses02F_impro01_M{n:03d}") for n in range(absent))
    build(tmp_path, {"Ses02F_impro01_F000": line("Ses02F_impro01_F000") + rated})
    scan(config(tmp_path))
    assert words in caplog.text


def test_videos_of_turns_come_before_audio(tmp_path):
    build(tmp_path, {"Ses01F_impro01_F000": line("Ses01F_impro01_F000")})
    place(tmp_path, "faces/Ses01F_impro01_F000.mp4")
    assert [c.path for c in scan(config(tmp_path)).clips] == ["faces/Ses01F_impro01_F000.mp4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "has no line such as"),
        (line("Ses01F_impro01_F000", "hmm"), "line 3: unknown class 'hmm'"),
        (line("Ses01F_impro01_F000", means="2.5, 3.5"), "line 3: .*should be three numbers"),
        (line("Ses01F_impro01_F000", means="2.5, high, 3"), "line 3"),
        (line("Ses01F_impro01_F000") + line("Ses01F_impro01_F000", "sad"), "line 8: a second, different"),
        (line("Ses01F_impro01_F009"), r"rates none of the turns \(1\), such as"),
    ],
)
def test_bad_ratings(tmp_path, text, message):
    place(tmp_path, wav_of("Ses01F_impro01_F000"))
    table = rate(tmp_path, "Ses01F_impro01", text)
    with pytest.raises(CorpusError, match=message) as caught:
        scan(config(tmp_path))
    assert "line" not in message or "rates no" in message or str(table.parent) in str(caught.value)


def test_refusals(tmp_path):
    with pytest.raises(CorpusError, match="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"):
        scan(config(tmp_path))
    place(tmp_path, wav_of("Ses01F_impro01_F000"))
    with pytest.raises(CorpusError, match="no folder EmoEvaluation"):
        scan(config(tmp_path))


def test_one_session_is_left_out_and_sessions_stay_whole(tmp_path):
    turns = [f"Ses0{n}{worn}_impro01_{who}000" for n in range(1, 6) for worn in "FM" for who in "FM"]
    build(tmp_path, {turn: line(turn) for turn in turns})
    corpus = scan(config(tmp_path))
    assert check_session_folds(corpus, lambda n: (f"Ses0{n}F", f"Ses0{n}M"), lambda name: name[:5]) == 5


@pytest.mark.parametrize(
    ("name", "speaker", "sentence"),
    [
        ("downloads/iemocap/Session3/sentences/wav/x/Ses03M_impro05b_F008.wav", "Ses03F", ""),
        ("iemocap-Ses05F_script01_1b_M001", "Ses05M", "SCRIPT01_1B"),
    ],
)
def test_published_names_tell_speaker_and_script(name, speaker, sentence):
    """Forms of names in EmoBox's lists."""
    facts = facts_of(name, "iemocap")
    assert (facts.speaker, facts.sentence) == (speaker, sentence)
    assert facts.sex == {"F": "female", "M": "male"}[speaker[-1]]


def test_init_recognises_it():
    assert known_corpus([wav_of("Ses01F_impro01_F000"), wav_of("Ses01F_impro01_M001")]).config == "iemocap"
