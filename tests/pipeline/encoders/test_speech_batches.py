"""Batches hold windows of several clips, and each clip gets what it gets alone, in the order of the clips."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deiii.data.cache.outcomes import Status
from deiii.data.config.load import load_config
from deiii.data.encoders.chosen import Choice
from deiii.data.encoders.record import Encoder
from deiii.pipeline.encoders.load import Loaded, load_encoder
from deiii.pipeline.speech import stage
from deiii.pipeline.speech.batches import AHEAD
from deiii.pipeline.speech.stage import SpeechClips
from tests.helpers.onnx_maker import speech_file

HOP, WINDOW, STEP = 100, 4000, 2000
RECORD = Encoder("fake", "speech", "none", width=1, layers=(1,), hop=HOP, shortest=HOP)
CONFIG = load_config(overrides=["stages=[speech]"]).speech
RNG = np.random.default_rng(0)


def means(samples: np.ndarray) -> np.ndarray:
    """Rows of an encoder without context: the mean of each 100 samples, also of whole files."""
    whole = len(samples) // HOP * HOP
    return samples[:whole].reshape(-1, HOP).mean(axis=1, dtype=np.float64)


class Network:
    """Writes down the lengths of the windows of each call."""

    def __init__(self):
        self.calls: list[list[int]] = []

    def __call__(self, windows):
        assert windows.ndim == 2
        self.calls.append([len(window) for window in windows])
        return np.stack([means(window) for window in windows]).astype(np.float32)[:, :, None, None]


class Ragged(Network):
    def ragged(self, windows):
        self.calls.append([len(window) for window in windows])
        return [means(window).astype(np.float32)[:, None, None] for window in windows]


def loaded(network, batch: int, pool: int = 1) -> Loaded:
    return Loaded(Choice(RECORD, "", (1,), pool, WINDOW, STEP), network, batch)


def audio(n: int, level: float = 0.1) -> dict[str, np.ndarray]:
    """A clip as `read_speech` returns it; its audio begins at 2 s."""
    samples = RNG.normal(scale=level, size=n).astype(np.float32)
    none = np.array([], np.str_)
    return {
        "samples": samples, "start": np.array(2.0), "missing": np.array(0.0), "notes": none, "remarks": none
    }  # fmt: skip


def run(clips, encoder, config=CONFIG):
    """The results, and after each clip the number of clips that wait."""
    together = SpeechClips(config, encoder)
    found, waiting = [], []
    for number, clip in enumerate(clips, 1):
        found += together.add(clip)
        waiting.append(number - len(found))
    return [*found, *together.rest()], waiting


def check(clips, results):
    assert len(results) == len(clips)
    for clip, result in zip(clips, results, strict=True):
        expected = means(clip["samples"])
        np.testing.assert_allclose(result.arrays["states"][:, 0, 0], expected, atol=1e-4)
        np.testing.assert_allclose(result.arrays["time"], 2.0 + np.arange(len(expected)) * HOP / 16000)


def test_clips_of_one_length_share_a_call():
    network, clips = Network(), [audio(1500) for _ in range(10)]
    results, _ = run(clips, loaded(network, 4))
    check(clips, results)
    assert network.calls == [[1500] * 4, [1500] * 4, [1500] * 2]


def test_a_network_of_windows_of_one_length_gets_no_others():
    network = Network()
    clips = [audio(n) for n in (1500, 900, 1500, 900, 1200, 1500)]
    results, _ = run(clips, loaded(network, 4))
    check(clips, results)
    assert network.calls == [[1500] * 3, [900] * 2, [1200]]


def test_a_ragged_network_gets_windows_of_the_most_similar_lengths():
    network = Ragged()
    clips = [audio(n) for n in (1500, 300, 1400, 400, 1600, 500, 1300, 600)]
    results, _ = run(clips, loaded(network, 4))
    check(clips, results)
    assert network.calls == [[1500, 1400, 1600, 1300], [300, 400, 500, 600]]


@pytest.mark.parametrize("kind", [Network, Ragged])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("pool", [1, 3])
def test_long_clips_among_short_ones(kind, batch, pool):
    """Among them a last window that is encoded before earlier ones of its clip."""
    network = kind()
    lengths = (3200, 20_000 + 1200, 1000, 1200, 1100, 9000, 31_000, 100, 3900, 4000, 4100)
    clips = [audio(n) for n in lengths]
    results, _ = run(clips, loaded(network, batch, pool))
    for clip, result in zip(clips, results, strict=True):
        rows = means(clip["samples"])
        expected = [rows[i : i + pool].mean() for i in range(0, len(rows), pool)]
        np.testing.assert_allclose(result.arrays["states"][:, 0, 0], expected, atol=1e-4)
    assert max(map(len, network.calls)) == batch
    assert sum(map(len, network.calls)) == sum(1 + max(0, -(-(n - WINDOW) // STEP)) for n in lengths)


def test_with_a_batch_of_one_no_clip_waits():
    network, clips = Ragged(), [audio(n) for n in (900, 5000, 1200)]
    results, waiting = run(clips, loaded(network, 1))
    check(clips, results)
    assert waiting == [0, 0, 0] and network.calls == [[900], [4000], [3000], [1200]]


@pytest.mark.parametrize("kind", [Network, Ragged])
def test_a_limited_number_of_clips_waits(kind):
    """Also where no two windows have one length."""
    clips = [audio(2000 + n * 7 % 1000) for n in range(200)]  # of 200 lengths
    results, waiting = run(clips, loaded(kind(), 4))
    check(clips, results)
    assert 4 < max(waiting) < 2 * AHEAD * 4


def test_a_limited_amount_of_audio_waits(monkeypatch):
    monkeypatch.setattr(stage, "MOST_HELD", 6000)
    network = Ragged()
    clips = [audio(n) for n in (2000, 1900, 2100, 2050, 30_000, 1000)]
    results, waiting = run(clips, loaded(network, 4))
    check(clips, results)
    assert waiting == [1, 2, 3, 0, 0, 1]
    assert network.calls[0] == [2000, 2050, 1900, 2100]  # the fourth clip was one too many


def test_clips_that_cannot_be_used_keep_their_place_among_others():
    silent, odd, short = audio(2000, 0.0), audio(2000), audio(50)
    odd["samples"][7] = np.nan
    clips = [audio(1500), silent, audio(900), short, odd, audio(1500)]
    clips[0]["notes"], clips[0]["missing"] = np.array(["a part is damaged"]), np.array(1500 / 16000 / 4)
    clips[5]["remarks"] = silent["remarks"] = np.array(["one channel is silent"])
    results, _ = run(clips, loaded(Network(), 8))
    kinds = [Status.OK_PARTIAL, Status.NO_AUDIO, Status.OK, Status.TOO_SHORT, Status.UNREADABLE, Status.OK]
    assert [r.outcome.status for r in results] == kinds
    good = [n for n, result in enumerate(results) if result.outcome.usable]
    check([clips[n] for n in good], [results[n] for n in good])
    assert results[0].outcome.fraction == pytest.approx(0.75)
    assert [r.outcome.reason for r in results] == [
        "a part is damaged", "the audio is silent; one channel is silent", "",
        "0.003 s of audio is too short for the encoder fake", "the audio holds samples that are not finite",
        "one channel is silent",
    ]  # fmt: skip
    assert not any(results[n].arrays or results[n].outcome.fraction for n in (1, 3, 4))


def test_resemblyzer_gives_each_clip_what_it_gives_alone(test_data, monkeypatch):
    """The three layers as one LSTM of torch, one clip at a time."""
    from deiii.pipeline.encoders.resemblyzer import mel_power, raised

    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(test_data / "weights"))
    words = ["stages=[speech]", "speech.encoder=resemblyzer", "speech.layers=[3]", "speech.rate=0"]
    section = load_config(overrides=[*words, "speech.batch=4"]).speech
    encoder = load_encoder(section)
    assert encoder.batch == 4
    clips = [audio(n) for n in (16_000, 9_999, 25_000, 480, 16_001)]
    results, _ = run(clips, encoder, section)
    weights = test_data / "weights/resemblyzer_pretrained.pt"
    stored = torch.load(weights, weights_only=True, map_location="cpu")["model_state"]
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict({name[5:]: value for name, value in stored.items() if name.startswith("lstm.")})
    for clip, result in zip(clips, results, strict=True):
        rows = -(-len(clip["samples"]) // 160)
        mel = torch.from_numpy(mel_power(raised(clip["samples"]))[None, :rows])
        with torch.no_grad():
            expected = lstm(mel)[0][0].numpy()
        assert result.arrays["states"].shape == (rows, 1, 256)
        np.testing.assert_allclose(result.arrays["states"][:, 0], expected, rtol=1e-3, atol=1e-5)


def test_the_class_on_the_page_gives_each_clip_what_it_gives_alone():
    page = (Path(__file__).parents[3] / "docs/howto-encoder.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    network = names["load"](None)
    windows = [audio(n)["samples"] for n in (3200, 1000, 320, 8001)]
    for window, rows in zip(windows, network.ragged(windows), strict=True):
        np.testing.assert_allclose(rows, network(window[None])[0], rtol=1e-5)


def test_an_onnx_file_of_fixed_length_gives_each_clip_what_it_gives_alone(tmp_path):
    filters = RNG.normal(size=(6, 1, 320)).astype(np.float32)
    path = speech_file(tmp_path / "fixed.onnx", filters, length=32_000)
    words = ["stages=[speech]", f"speech.encoder={path}", "speech.outputs=[rows]", "speech.rate=0"]
    section = load_config(overrides=[*words, "speech.batch=4"]).speech
    encoder = load_encoder(section)
    clips = [audio(n) for n in (16_000, 9_600, 25_280, 640)]
    given: list[tuple[int, ...]] = []
    inner = encoder.network._network

    def watched(values):
        given.append(values.shape)
        return inner(values)

    encoder.network._network = watched
    results, _ = run(clips, encoder, section)
    assert given == [(4, 32_000)]
    for clip, result in zip(clips, results, strict=True):
        expected = clip["samples"].reshape(-1, 320) @ filters[:, 0].T
        np.testing.assert_allclose(result.arrays["states"][:, 0], expected, rtol=1e-3, atol=1e-3)
    free = speech_file(tmp_path / "free.onnx", filters)
    section = load_config(
        overrides=["stages=[speech]", f"speech.encoder={free}", "speech.outputs=[rows]"]
    ).speech
    assert load_encoder(section).network.ragged is None
