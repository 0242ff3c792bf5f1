"""The synthetic corpus as files: from one seed, complete or absent, balanced, found by real detectors."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.config.schema import CorpusConfig, SyntheticConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.make import make
from deiii.data.corpora.synthetic.plan import check, classes, clip_count, plan_clip

TINY = SyntheticConfig(speakers=2, clips_per_class=1, seconds=0.8, size=64)


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("generated")
    make(root, TINY, workers=1, progress=False)
    return root


def test_scan_gives_every_clip_with_its_labels(generated):
    corpus = scan(CorpusConfig(root=str(generated), synthetic=TINY))
    assert corpus.name == "synthetic-cues"
    assert corpus.classes == classes("cues") and len(corpus.classes) == 8
    assert [c.id for c in corpus.clips] == sorted(c.id for c in corpus.clips)
    for n, clip in enumerate(corpus.clips):
        plan = plan_clip(TINY, n)
        assert (clip.id, clip.label, clip.speaker) == (plan.id, plan.label, plan.speaker.name)
        assert clip.attributes["valence"] == pytest.approx(plan.valence, abs=1e-6)
        assert clip.attributes["arousal"] == pytest.approx(plan.arousal, abs=1e-6)
        assert (generated / clip.path).is_file()


def test_workers_and_a_killed_run_change_no_byte(generated, tmp_path):
    make(tmp_path, TINY, workers=2, progress=False)
    whole = contents(tmp_path)
    assert whole == contents(generated)
    # As a kill leaves it: clips missing, one unfinished, no description.
    (tmp_path / "corpus.json").rename(tmp_path / "drawing.json")
    (tmp_path / "s01/s01-003.mp4").unlink()
    (tmp_path / "s01/.s01-003.mp4.1.tmp").write_bytes(b"half")
    with pytest.raises(CorpusError, match="deiii synthesize"):
        scan(CorpusConfig(root=str(tmp_path), synthetic=TINY))
    make(tmp_path, TINY, workers=1, progress=False)
    assert contents(tmp_path) == whole


def test_two_runs_that_start_together_make_one_corpus(generated, tmp_path, capsys):
    with ThreadPoolExecutor(2) as pool:  # flock keeps out every other open file, of this process too
        list(pool.map(lambda _: make(tmp_path / "new", TINY, workers=1, progress=False), "ab"))
    assert contents(tmp_path / "new") == contents(generated)
    assert capsys.readouterr().out.count("waiting for it") == 1


def test_a_run_that_waited_refuses_the_corpus_that_another_run_began(tmp_path):
    """Not its clips among those of the other corpus."""
    other = SyntheticConfig(**{**TINY.__dict__, "seed": 5})
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(make, tmp_path, some, 1, False) for some in (TINY, other)]
        refused = [run.exception() for run in runs]
    assert [str(error) for error in refused if error and "other settings" in str(error)], refused
    assert None in refused


def test_a_second_call_touches_nothing(generated):
    before = {p: p.stat().st_mtime_ns for p in generated.rglob("*")}
    make(generated, TINY, workers=1, progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in generated.rglob("*")}


def test_other_settings_are_refused_and_named(generated):
    other = SyntheticConfig(**{**TINY.__dict__, "seed": 5})
    with pytest.raises(CorpusError, match="seed=0, not 5"):
        make(generated, other, progress=False)
    with pytest.raises(CorpusError, match="seed=0, not 5"):
        scan(CorpusConfig(root=str(generated), synthetic=other))


def test_a_folder_of_other_files_is_refused_and_keeps_them(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path,speaker,label\nanna/001.mp4,anna,happy\n")
    before = contents(tmp_path)
    with pytest.raises(CorpusError, match="holds other files, such as clips.csv.*`deiii init "):
        make(tmp_path, TINY, workers=1, progress=False)
    assert contents(tmp_path) == before and list(tmp_path.iterdir()) == [table]


def test_scan_without_a_corpus_says_how_to_generate_one(tmp_path):
    with pytest.raises(CorpusError, match="deiii synthesize corpus.root="):
        scan(CorpusConfig(root=str(tmp_path / "none")))


def test_another_seed_gives_another_corpus():
    one, two = (plan_clip(SyntheticConfig(seed=s), 0) for s in (0, 1))
    assert not np.allclose(one.centre, two.centre)
    assert one.speaker.skin != two.speaker.skin


def test_the_command_generates_what_the_library_generates(generated, tmp_path):
    command = [sys.executable, "-m", "deiii", "synthesize", f"corpus.root={tmp_path}", "workers=1"]
    settings = ["speakers=2", "clips_per_class=1", "seconds=0.8", "size=64"]
    subprocess.run([*command, *(f"corpus.synthetic.{s}" for s in settings)], check=True)
    assert contents(tmp_path) == contents(generated)
    wrong = subprocess.run([*command, "corpus.synthetic.speekers=2"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "did you mean 'corpus.synthetic.speakers'" in wrong.stderr


@pytest.mark.parametrize(
    "change", [{"size": 65}, {"seconds": 0.1}, {"speakers": 0}, {"fps": 0}, {"seed": -1}]
)
def test_settings_out_of_range_are_refused(change, tmp_path):
    with pytest.raises(ValueError, match=next(iter(change))):
        make(tmp_path, SyntheticConfig(**change), progress=False)


@pytest.mark.parametrize("task", ["cues", "sync"])
def test_each_speaker_has_every_class_equally_often(task):
    config = SyntheticConfig(task=task, speakers=6)
    plans = [plan_clip(config, n) for n in range(clip_count(config))]
    counts = Counter((p.speaker.name, p.label) for p in plans)
    assert set(counts.values()) == {config.clips_per_class}
    assert len(counts) == 6 * len(classes(task))


def test_class_names_say_the_bits():
    for n in range(24):
        plan = plan_clip(SyntheticConfig(), n)
        assert plan.label.split("-") == [
            ("narrow", "wide")[plan.appearance],
            ("still", "tremor")[plan.motion],
            ("rising", "falling")[plan.voice],
        ]


def test_tables_are_whole(generated):
    with open(generated / "clips.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 16
    assert json.loads((generated / "corpus.json").read_text())["settings"] == TINY.__dict__
    assert not (generated / "drawing.json").exists()


@pytest.fixture(scope="module")
def shown():
    """Three frames of one clip of each of 24 speakers, with the true landmarks."""
    config = SyntheticConfig(seconds=0.8)
    out = []
    for person in range(24):
        plan = plan_clip(config, person * 24 + person)
        frames, points = render_frames(plan), landmarks(plan)
        out += [(frames[i], points[i]) for i in (0, 8, 17)]
    return out


def test_the_haar_cascade_finds_each_face_in_its_place(shown):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = 0
    for frame, points in shown:
        boxes = cascade.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 5, minSize=(60, 60))
        nose = points[2]
        found += any(x < nose[0] < x + w and y < nose[1] < y + h for x, y, w, h in boxes)
    assert found / len(shown) >= 0.98


def test_yunet_finds_each_face_with_its_landmarks(shown):
    if not os.environ.get("DEIII_TEST_DATA"):
        pytest.skip("DEIII_TEST_DATA is not set; it names the folder with YuNet's weights")
    weights = Path(os.environ["DEIII_TEST_DATA"]) / "weights/face_detection_yunet_2023mar.onnx"
    detector = cv2.FaceDetectorYN.create(str(weights), "", (192, 192), 0.6)
    scores, errors = [], []
    for frame, points in shown:
        faces = detector.detect(np.ascontiguousarray(frame[..., ::-1]))[1]
        best = max(faces, key=lambda f: f[-1]) if faces is not None else None
        scores.append(0.0 if best is None else best[-1])
        if best is not None:
            errors.append(np.abs(best[4:14].reshape(5, 2) - points).mean())
    assert np.mean(np.array(scores) > 0.9) >= 0.98
    assert np.median(errors) < 5  # px, of a face about 100 px wide


@pytest.mark.parametrize(
    "word", ["size=65", "size=3000", "seconds=0.2", "seconds=100", "fps=200", "speakers=10000"]
)
def test_the_command_refuses_settings_out_of_range_in_one_line(word, tmp_path, capsys):
    words = ["synthesize", f"corpus.root={tmp_path / 'raw'}", f"corpus.synthetic.{word}"]
    assert main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]  # a busy machine also prints a note on loading
    assert last.startswith(f"error: corpus.synthetic.{word.partition('=')[0]} ")
    assert not (tmp_path / "raw").exists()


def test_limits_of_the_settings_are_those_that_the_corpus_accepts():
    for f in fields(SyntheticConfig):
        for limit in ("low", "high"):
            value = f.metadata[limit]
            if value is not None:
                check(replace(SyntheticConfig(), **{f.name: type(f.default)(value)}))
