"""Corpora by pattern: the configs on miniature layouts, and what is refused."""

from __future__ import annotations

import csv
import unicodedata
from dataclasses import replace

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.model.training.parts import check_without_validation, needed_parts

LAYOUTS = {
    "savee": {
        "AudioVisualClip/DC/sa01.avi": ("dc", "sad"),
        "AudioVisualClip/KL/a15.avi": ("kl", "angry"),
        "JE_su03.wav": ("je", "surprised"),
        "AnnotatedText.wav": None,
    },
    "enterface": {
        "subject 19/anger/sentence 4/s19_an_4.avi": ("s19", "angry"),
        "subject 6/sadness/s6_sa_1.avi": ("s6", "sad"),
    },
    "emodb": {"wav/03a01Fa.wav": ("03", "happy"), "wav/16b10Wb.wav": ("16", "angry")},
    "tess": {
        "OAF_angry/OAF_back_angry.wav": ("oa", "angry"),
        "OAF_neutral/OA_bite_neutral.wav": ("oa", "neutral"),
        "YAF_pleasant_surprised/YAF_chair_ps.wav": ("ya", "surprised"),
    },
    "cafe": {
        "Colère/Fort/01-C-2-3.wav": ("01", "angry"),
        "Neutre/12-N-1-6.wav": ("12", "neutral"),
        "08-T-1-1.wav": ("08", "sad"),
        "CaFE_192k_1/Readme.wav": None,
    },
    "java_sed": {
        "01-04-03_01.mp4": ("01", "happy"),
        "clips/10-01-06_02.mp4": ("10", "angry"),
        "01-04-03_01 010.jpg": None,
        "03-01-07-02-02-01-06.mp4": None,
    },
    "mead": {
        "M003/video/front/angry/level_1/001.mp4": ("m003", "angry"),
        "W009/video/front/neutral/level_1/030.mp4": ("w009", "neutral"),
        "W009/video/left_30/neutral/level_1/030.mp4": None,
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_configs_read_their_layouts(tmp_path, name):
    for path in LAYOUTS[name]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    corpus = scan(load_config(name, [f"corpus.root={tmp_path}"]).corpus)
    found = {clip.path: (clip.speaker, clip.label) for clip in corpus.clips}
    assert found == {path: what for path, what in LAYOUTS[name].items() if what}
    assert corpus.name == f"pattern-{name}"


def test_the_names_of_mead_tell_the_sex(tmp_path):
    for path in ("M003/video/front/angry/level_1/001.mp4", "W009/video/front/happy/level_1/030.mp4"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    corpus = scan(load_config("mead", [f"corpus.root={tmp_path}"]).corpus)
    assert {clip.speaker: clip.sex for clip in corpus.clips} == {"m003": "male", "w009": "female"}


def test_a_sex_that_is_not_understood_is_noted_and_one_that_changes_is_refused(tmp_path):
    pattern = r"^(?P<speaker>s\d)(?P<sex>[a-z]?)_(?P<label>[a-z]+)$"
    words = ["corpus.name=pattern", f"corpus.root={tmp_path}", f"corpus.pattern={pattern}"]
    for name in ("s1f_sad.wav", "s1_happy.wav", "s2x_sad.wav"):
        (tmp_path / name).touch()
    corpus = scan(load_config(overrides=words).corpus)
    assert {clip.id: clip.sex for clip in corpus.clips} == {
        "s1f_sad": "female",
        "s1_happy": "",
        "s2x_sad": "",
    }
    assert any("sex 'x' of s2x_sad.wav is not understood" in note for note in corpus.notes)
    (tmp_path / "s1m_angry.wav").touch()
    with pytest.raises(CorpusError, match=r"speaker s1 is (fe)?male in .* and (fe)?male in "):
        scan(load_config(overrides=words).corpus)


SPEAKERS = {"savee": 4, "enterface": 42, "emodb": 10, "tess": 2, "cafe": 12, "java_sed": 10, "mead": 48}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_fold_of_a_corpus_can_be_trained_with_its_config(name):
    """The two speakers of TESS leave none for validation."""
    config = load_config(name)
    clips = tuple(
        Clip(f"s{i:02d}-{label}", f"s{i:02d}-{label}.wav", f"s{i:02d}", label)
        for i in range(SPEAKERS[name])
        for label in ("angry", "sad")
    )
    corpus = Corpus("pattern", ".", ("angry", "sad"), clips)
    check_without_validation(config)
    for fold in range(number_of_folds(corpus, config.split)):
        split = make_split(corpus, replace(config.split, fold=fold))
        assert all(getattr(split, part) for part in needed_parts(split, config)), (name, fold)


def test_java_sed_reads_the_labels_that_genuine_clips_have(test_data):
    folder = test_data / "media/emotional_av"
    names = {
        "sadness": "sad",
        "happiness": "happy",
        "surprise": "surprised",
        "fear": "fearful",
        "anger": "angry",
    }
    with (folder / "clips.csv").open(newline="") as file:
        rows = {
            row["path"]: (row["speaker"], names.get(row["label"], row["label"]))
            for row in csv.DictReader(file)
        }
    corpus = scan(load_config("java_sed", [f"corpus.root={folder}"]).corpus)
    assert len(rows) == 144 and {c.path: (c.speaker, c.label) for c in corpus.clips} == rows


def corpus_of(root, files, **more):
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return CorpusConfig(name="pattern", root=str(root), **more)


SIMPLE = r"(?P<speaker>s\d)_(?P<label>[a-z]+)$"


def test_labels_without_codes_are_classes(tmp_path):
    config = corpus_of(tmp_path, ["s1_sad.mp4", "s1_sad.wav", "s2_glad.wav"], pattern=SIMPLE)
    corpus = scan(config)
    assert corpus.classes == ("glad", "sad")
    assert [clip.path for clip in corpus.clips] == ["s1_sad.mp4", "s2_glad.wav"]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (["x.mp4"], "left out 1 file that does not match: x.mp4"),
        (["x.mp4", "y.mp4"], "left out 2 files that do not match: x.mp4, y.mp4"),
    ],
)
def test_files_that_do_not_match_are_counted(tmp_path, caplog, others, words):
    scan(corpus_of(tmp_path, ["s1_sad.mp4", *others], pattern=SIMPLE))
    assert words in caplog.text


def test_a_code_can_leave_recordings_out(tmp_path):
    config = corpus_of(
        tmp_path, ["s1_sad.mp4", "s2_glad.wav"], pattern=SIMPLE, codes={"SAD": "sad", "glad": None}
    )
    assert [clip.label for clip in scan(config).clips] == ["sad"]


@pytest.mark.parametrize(
    ("pattern", "codes", "message"),
    [
        (None, {}, "needs corpus.pattern"),
        ("(", {}, "is not a regular expression"),
        (r"(?P<speaker>s\d)", {}, "has no group .*label"),
        ("(?P<speaker>x)(?P<label>y)", {}, "no path .* matches"),
        (SIMPLE, {"glad": "happy"}, "'sad', which corpus.codes does not name"),
    ],
)
def test_refusals(tmp_path, pattern, codes, message):
    with pytest.raises(CorpusError, match=message):
        scan(corpus_of(tmp_path, ["s1_sad.mp4"], pattern=pattern, codes=codes))


PATTERN = r"^(?P<speaker>[^_]+)_(?P<label>[^_]+)_"


def test_spellings_of_a_label_in_names_are_one_class(tmp_path):
    files = ["a_Happy_1.wav", "b_happy_2.wav", "c_happy_3.wav", "a_non\u2011sad_4.wav", "b_non-sad_5.wav"]
    corpus = scan(corpus_of(tmp_path, files, pattern=PATTERN))
    assert corpus.classes == ("happy", "non-sad")
    assert any("'Happy' (file a_Happy_1.wav) is read as 'happy'" in note for note in corpus.notes)
    with pytest.raises(CorpusError, match="look alike"):
        scan(corpus_of(tmp_path, ["d_h\u0430ppy_6.wav"], pattern=PATTERN))


@pytest.mark.parametrize(("on_disk", "in_config"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_codes_and_speakers_fit_in_either_normalisation(tmp_path, on_disk, in_config):
    disk, config = (
        lambda text, form=form: unicodedata.normalize(form, text) for form in (on_disk, in_config)
    )
    files = [
        disk(name) for name in ("Zo\u00eb_fr\u00f6h_1.wav", "zo\u00eb_w\u00fct_2.wav", "ben_fr\u00f6h_3.wav")
    ]
    codes = {config("fr\u00f6h"): "happy", config("W\u00fct"): "angry"}
    corpus = scan(corpus_of(tmp_path, files, pattern=PATTERN, codes=codes))
    assert corpus.speakers == ("ben", "zo\u00eb")
    assert [clip.label for clip in corpus.clips if clip.speaker == "zo\u00eb"] == ["happy", "angry"]


def test_two_spellings_of_a_class_in_codes_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="'happy' and 'Happy' differ in spelling alone"):
        scan(corpus_of(tmp_path, ["a_x_1.wav"], pattern=PATTERN, codes={"x": "happy", "y": "Happy"}))


def test_two_codes_that_differ_in_case_alone_are_refused(tmp_path):
    codes = {"N": "neutral", "n": "nervous"}
    config = corpus_of(tmp_path, ["s1_N_a.wav"], pattern=r"(?P<speaker>s\d)_(?P<label>n)_", codes=codes)
    with pytest.raises(CorpusError, match="the classes neutral and nervous"):
        scan(config)


def test_two_spellings_of_a_speaker_are_refused(tmp_path):
    config = corpus_of(tmp_path, ["1_sad.wav", "01_sad.wav"], pattern=r"(?P<speaker>\d+)_(?P<label>\w+)")
    with pytest.raises(CorpusError, match="speakers '01' and '1' differ in spelling alone"):
        scan(config)


def test_codes_that_leave_everything_out_are_the_reason_given(tmp_path):
    config = corpus_of(
        tmp_path, ["1_sad.wav"], pattern=r"(?P<speaker>\d+)_(?P<label>\w+)", codes={"sad": None}
    )
    with pytest.raises(CorpusError, match="leaves out 1 file under .*all that match"):
        scan(config)


@pytest.mark.parametrize("end", [r"\.mp4$", ".mp4"])
def test_a_pattern_with_the_suffix_is_told_from_one_that_does_not_match(tmp_path, end):
    (tmp_path / "s1_happy.mp4").touch()
    words = r"(?P<speaker>s\d)_(?P<label>[a-z]+)"
    with pytest.raises(CorpusError, match="remove the suffix from it"):
        scan(CorpusConfig(name="pattern", root=str(tmp_path), pattern=words + end))
    with pytest.raises(CorpusError) as other:
        scan(CorpusConfig(name="pattern", root=str(tmp_path), pattern="x" + words + end))
    assert "remove the suffix" not in str(other.value)
