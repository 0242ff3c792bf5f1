"""One recording in two formats under two speakers is named before training."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import soundfile

from deiii.__main__ import main
from deiii.data.audit.copies import copies
from deiii.data.audit.run import audit
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_split import open_split
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows


def test_a_copy_in_another_format_is_named_with_both_speakers(tmp_path, capsys):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    rows = tone_rows(root)
    first, last = rows[0], rows[-1]
    samples, rate = soundfile.read(root / first[0], dtype="int16")
    copy = root / last[0]
    copy.unlink()
    soundfile.write(copy.with_suffix(".wav"), samples, rate, subtype="PCM_16")
    last[0] = last[0].replace(".flac", ".wav")
    write_rows(root, rows)
    assert (root / first[0]).read_bytes() != (root / last[0]).read_bytes()
    assert preprocess(*words_for(root, cache)) == 0
    capsys.readouterr()
    assert main(["train", *words_for(root, cache, tmp_path / "run"), "--quiet"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "one recording" in line]
    assert len(told) == 1 and told[0].startswith("warning: one recording under several speakers: ")
    for path, speaker, label in (first, last):
        assert f"{path} (" in told[0] and f"speaker {speaker}, label {label})" in told[0]
    # without the copy nothing is said
    soundfile.write(
        root / last[0], (samples * np.linspace(0, 1, len(samples))).astype(np.int16), rate, subtype="PCM_16"
    )
    assert preprocess(*words_for(root, cache)) == 0
    capsys.readouterr()
    assert main(["train", *words_for(root, cache, tmp_path / "other"), "--quiet"]) == 0
    assert "one recording" not in capsys.readouterr().err


def features_of(values, speakers):
    """Features of clips of which those with one value are one recording."""
    clips = [Clip(f"c{i}", f"c{i}.wav", speaker, "x") for i, speaker in enumerate(speakers)]
    streams = {"logmel": SimpleNamespace(
        row_bytes=1, length=np.full(len(values), 3), main=lambda row: values[row] + np.arange(3)
    )}  # fmt: skip
    return SimpleNamespace(clips=clips, streams=streams)


def test_recordings_of_several_parts_are_told_first():
    values = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    features = features_of(values, [f"s{i}" for i in range(12)])
    parts = {"training part": np.arange(11), "test part": np.array([11])}
    told = copies(features, parts)
    assert told[0] == "warning: 1 recording is in several parts, so figures of this split are too good"
    assert "c10.wav (training part" in told[1] and "c11.wav (test part" in told[1]
    assert (
        told[-1] == "warning: 2 more recordings are under several speakers or labels, too" and len(told) == 6
    )
    assert len(copies(features, {"training part": np.arange(10)})) == 5


def test_people_of_mix_who_are_tested_under_another_name_are_not_trained_on(tmp_path, capsys):
    """Their recordings are known by the digests of their files, whatever the speaker is called."""
    root, other = tmp_path / "raw", tmp_path / "other"
    rows = tone_rows(root)
    write_rows(root, rows)
    shutil.copytree(root, other)
    write_rows(other, [[path, f"x-{speaker}", label] for path, speaker, label in rows])
    (other / "clips.csv").rename(other / "own.csv")
    (tmp_path / "other.yaml").write_text(f"corpus: {{name: table, root: {other}, table: own.csv}}\n")
    cache = tmp_path / "cache"
    assert preprocess(*words_for(root, cache)) == 0
    assert preprocess(*words_for(other, cache), "corpus.table=own.csv") == 0
    capsys.readouterr()
    words = [*words_for(root, cache, tmp_path / "run"), f"mix=[{tmp_path / 'other.yaml'}]", "mix_test=false"]
    assert main(["train", *words, "--quiet"]) == 0
    split = Split.load(tmp_path / "run/split.json")
    assert open_split(*words) == split
    (_, found), *_ = audit("speakers", read_settings(words), fold=split.fold)
    assert not found.leaks, found.text()
    held = {*split.speakers("val"), *split.speakers("test")}
    trained = {speaker.rpartition("x-")[2] for speaker in split.speakers("train")}
    assert held and held.isdisjoint(trained)
    assert any(":x-" in speaker for speaker in split.speakers("train"))
    assert "of mix, of whom the validation or test part has recordings" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run")]) == 0
