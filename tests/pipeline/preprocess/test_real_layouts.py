"""Genuine CREMA-D and RAVDESS videos through `deiii preprocess` of their own corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.pipeline.extract import read_indices
from deiii.pipeline.media.audio import read_audio

RATE = 16_000
MILLISECOND = 1e-3
LABELS = {
    "ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip


def preprocess(test_data: Path, monkeypatch, tmp_path: Path, words: list[str]) -> dict[str, dict[str, str]]:
    """The outcome of each clip by stage."""
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(test_data / "weights"))
    words = [*words, f"cache={tmp_path / 'cache'}", "workers=1", "flow.method=dis"]
    assert main(["preprocess", *words]) == 0
    config = load_config([w for w in words if "=" not in w], [w for w in words if "=" in w])
    corpus = scan(config.corpus)
    found = {}
    for stage, index in read_indices(config, corpus).items():
        found[stage] = {row.id: str(row.outcome.status) for shard in index.shards for row in shard.clips}
    return found


@pytest.mark.slow
def test_crema_d_videos_are_ok(test_data, tmp_path, monkeypatch):
    folder = test_data / "media/crema_d_video"
    found = preprocess(test_data, monkeypatch, tmp_path, ["crema_d", "tiny", f"corpus.root={folder}"])
    clips = {path.stem for path in folder.glob("*.flv")}
    assert len(clips) == 6 and set(found) == {"faces", "flow", "logmel"}
    assert all(outcomes == dict.fromkeys(clips, "ok") for outcomes in found.values()), found
    corpus = scan(load_config("crema_d", [f"corpus.root={folder}"]).corpus)
    assert {clip.id.split("_")[2]: clip.label for clip in corpus.clips} == LABELS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modality", "stages"), [("audio-video", "faces,flow,logmel"), ("video-only", "faces,flow")]
)
def test_ravdess_videos_are_ok(test_data, tmp_path, monkeypatch, modality, stages):
    folder = test_data / "media/ravdess_video"
    words = ["ravdess", "tiny", f"corpus.root={folder}", f"corpus.modality={modality}", f"stages=[{stages}]"]
    found = preprocess(test_data, monkeypatch, tmp_path, words)
    code = {"audio-video": "01", "video-only": "02"}[modality]
    clips = {path.stem for path in folder.glob(f"{code}-*.mp4")}
    assert len(clips) == 2
    assert found == {stage: dict.fromkeys(clips, "ok") for stage in stages.split(",")}


def test_sound_of_a_video_and_its_recording_are_aligned(test_data):
    """The audio of files 01 (video) and 03 (audio alone) of a take agrees to 1 ms on the caches' clocks."""
    recordings = {path.stem: path for path in (test_data / "media/ravdess_speech_16k").rglob("03-*.flac")}
    videos = sorted((test_data / "media/ravdess_video").glob("01-*.mp4"))
    assert len(videos) == 2
    for video in videos:
        one, start_one, _ = read_audio(video, RATE)
        two, start_two, _ = read_audio(recordings[f"03{video.stem[2:]}"], RATE)
        one, two = one - one.mean(), two - two.mean()
        found = correlate(one, two, method="fft")
        lag = int(found.argmax()) - (len(two) - 1)  # number of samples by which the video's audio is late
        assert found.max() / (np.linalg.norm(one) * np.linalg.norm(two)) > 0.9
        late = lag / RATE + start_one - start_two
        assert abs(late) <= MILLISECOND, video.name
