"""Gaps between women and men and among speakers, against SciPy on speakers whose figures are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from deiii.data.audit.names import sex_of
from deiii.data.cache.index import load_corpus, save_corpus
from deiii.data.config.load import load_config
from deiii.data.corpora.clips import Clip
from deiii.data.corpora.scan import scan
from deiii.model.evaluation.sections.gaps import gap_lines, gap_values, gaps_of
from deiii.model.network.task import Task
from deiii.model.training.scoring import Predictions

CLASSES = ("a", "b")
CLIPS = 20  # a speaker, half of each class


def drawn(sexes: list[str], wrong: list[float], seed: int = 0) -> tuple[Predictions, list[Clip], list[float]]:
    """Predictions for speakers with an error rate each; returns also the UAR of each speaker."""
    rng = np.random.default_rng(seed)
    labels, guesses, clips, uars = [], [], [], []
    for s, (sex, rate) in enumerate(zip(sexes, wrong, strict=True)):
        truth = np.arange(CLIPS) % 2
        guess = np.where(rng.random(CLIPS) < rate, 1 - truth, truth)
        labels += truth.tolist()
        guesses += guess.tolist()
        clips += [Clip(f"{s}/{c}", f"{s}/{c}.wav", f"s{s}", CLASSES[c % 2], sex=sex) for c in range(CLIPS)]
        uars.append(float(np.mean([(guess[truth == k] == k).mean() for k in (0, 1)])))
    n = len(labels)
    found = Predictions(
        np.arange(n), np.array(labels), np.zeros((n, 0), np.float32),
        {"fused": np.eye(2, dtype=np.float32)[guesses]}, {}, {"fused": np.ones(n, bool)}, 0.0,
    )  # fmt: skip
    return found, clips, uars


TASK = Task(CLASSES, (), ())
WRONG = [0.1, 0.2, 0.3, 0.15, 0.4, 0.5, 0.35, 0.3, 0.6]
SEXES = ["female"] * 4 + ["male"] * 5


def test_the_difference_has_welchs_interval():
    """Every speaker has as many clips of each class, so the UAR of a side is the mean of its speakers'."""
    found, clips, uars = drawn(SEXES, WRONG)
    gap = gaps_of(found, clips, "mine", TASK)["sex"]
    women, men = np.array(uars[:4]), np.array(uars[4:])
    assert gap["female"]["uar"] == pytest.approx(women.mean()) and gap["male"]["speakers"] == 5
    assert gap["difference"]["uar"] == pytest.approx(women.mean() - men.mean())
    wanted = stats.ttest_ind(women, men, equal_var=False).confidence_interval(0.95)
    assert gap["difference"]["uar_ci"] == pytest.approx([wanted.low, wanted.high], abs=1e-6)


def test_the_deviation_among_speakers():
    found, clips, uars = drawn(SEXES, WRONG, seed=2)
    spread = gaps_of(found, clips, "mine", TASK)["speakers"]["uar"]
    assert spread["worst"] == min(uars) and uars[int(spread["worst_speaker"][1:])] == min(uars)
    assert spread["best"] == max(uars)
    assert spread["sd"] == pytest.approx(np.std(uars, ddof=1))
    low, high = spread["sd_ci"]  # the sd that would make the observed one just unlikely
    statistic = 8 * np.var(uars, ddof=1)
    assert stats.chi2.sf(statistic / low**2, 8) == pytest.approx(0.025)
    assert stats.chi2.cdf(statistic / high**2, 8) == pytest.approx(0.025)


def test_equal_speakers_do_not_tell_how_much_others_differ():
    found, clips, _ = drawn(SEXES, [0.0] * 9)
    gaps = gaps_of(found, clips, "mine", TASK)
    assert (gaps["speakers"]["uar"]["sd"], gaps["speakers"]["uar"]["sd_ci"]) == (0.0, None)
    rows = gap_values(gaps)["rows"]
    assert [row[3] for row in rows if row[1] == "deviation among speakers"] == ["–"]
    assert ("UAR", "every speaker", "1.000", "") in rows
    assert not [row for row in rows if row[1].startswith(("worst", "best"))]  # no speaker is singled out


@pytest.mark.parametrize("sexes", [["female"] * 9, ["female"] * 4 + [""] * 5, [""] * 9])
def test_without_both_sexes_there_is_no_difference(sexes):
    found, clips, _ = drawn(sexes, WRONG)
    gaps = gaps_of(found, clips, "mine", TASK)
    assert gaps["sex"] == {} and len(gaps["speaker_sex"]) == sum(s != "" for s in sexes)
    assert len(gap_values(gaps)["rows"]) == 3 and len(gap_lines(gaps)) == 1


def test_few_speakers_of_a_side_give_no_interval():
    found, clips, _ = drawn(["female", "female", "male", "male", "male"], WRONG[:5])
    gaps = gaps_of(found, clips, "mine", TASK)
    assert gaps["sex"]["difference"]["uar_ci"] is None and gaps["sex"]["difference"]["uar"] is not None
    json.dumps(gaps, allow_nan=False)
    assert "women minus men" in gap_lines(gaps)[0]
    two, few, _ = drawn(["female", "male"], WRONG[:2])
    assert gaps_of(two, few, "mine", TASK)["speakers"] == {} and gap_lines(gaps_of(two, few, "mine", TASK))


@pytest.mark.parametrize(
    ("corpus", "path", "speaker", "sex"),
    [
        ("ravdess", "Actor_01/03-01-01-01-01-01-01.wav", "actor-01", "male"),
        ("ravdess-audio-only-speech", "Actor_02/03-01-01-01-01-01-02.wav", "actor-02", "female"),
        ("crema_d-voice+ravdess", "Actor_02/03-01-01-01-01-01-02.wav", "ravdess:actor-02", "female"),
        ("msp_improv", "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.avi", "F01", "female"),
        ("pattern-savee", "DC/a01.avi", "dc", "male"),
        ("pattern-emodb", "wav/08a01Fa.wav", "08", "female"),
        ("pattern-cafe", "02-N-1-1.wav", "02", "female"),
        ("crema_d", "1001_DFA_ANG_XX.flv", "1001", ""),
        ("mine", "x.wav", "x", ""),
    ],
)
def test_sex_by_corpus(corpus, path, speaker, sex):
    assert sex_of(Clip("a", path, speaker), corpus) == sex


def test_tables_tell_the_sex_and_keep_it_in_the_cache(tmp_path):
    (tmp_path / "clips.csv").write_text("path,speaker,label,sex\na.wav,s,x,F\nb.wav,t,y,man\nc.wav,u,y,?\n")
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()
    corpus = scan(load_config("table", [f"corpus.root={tmp_path}", "corpus.table=clips.csv"]).corpus)
    assert [clip.sex for clip in corpus.clips] == ["female", "male", ""]
    save_corpus(tmp_path / "corpus.json", corpus)
    assert load_corpus(tmp_path / "corpus.json").clips == corpus.clips
    assert (tmp_path / "corpus.json").read_text().count('"sex"') == 2


def test_crema_d_reads_its_demographics(tmp_path, test_data):
    (tmp_path / "VideoFlash").mkdir()
    for actor in (1001, 1002):
        (tmp_path / f"VideoFlash/{actor}_DFA_ANG_XX.flv").touch()
    config = load_config("crema_d", [f"corpus.root={tmp_path}"]).corpus
    assert [clip.sex for clip in scan(config).clips] == ["", ""]
    table = test_data / "media/crema_d_tables/VideoDemographics.csv"
    (tmp_path / "VideoDemographics.csv").write_bytes(table.read_bytes())
    assert [clip.sex for clip in scan(config).clips] == ["male", "female"]


def test_clips_without_a_label_and_their_speakers_change_no_interval():
    found, clips, _ = drawn(SEXES, WRONG)
    unlabelled, others, _ = drawn(SEXES, [0.5] * 9, seed=1)
    others = [replace(clip, id=f"x{clip.id}", speaker=f"x{clip.speaker}", label=None) for clip in others]
    n = 2 * len(clips)
    both = Predictions(
        np.arange(n), np.concatenate([found.label, np.full(n // 2, -1)]), np.zeros((n, 0), np.float32),
        {"fused": np.concatenate([found.probabilities["fused"], unlabelled.probabilities["fused"]])}, {},
        {"fused": np.ones(n, bool)}, 0.0,
    )  # fmt: skip
    one, other = (gaps_of(p, c, "mine", TASK)["sex"] for p, c in ((found, clips), (both, [*clips, *others])))
    assert other["difference"] == one["difference"]
    assert all(other[sex]["uar_ci"] == one[sex]["uar_ci"] for sex in ("female", "male"))
