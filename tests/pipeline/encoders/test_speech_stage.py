"""The speech stage on real encoders: times, long files, kept bytes, damaged weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from deiii.data.cache.outcomes import ClipError, Status
from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder
from deiii.pipeline.speech.stage import SpeechClips, read_speech
from tests.helpers.own_settings import own_settings

ENCODERS = ["smart-turn", "resemblyzer"]


def config_of(*words: str):
    return load_config(overrides=["stages=[speech]", *words])


@pytest.fixture
def weights(test_data, monkeypatch):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(test_data / "weights"))


@pytest.fixture(scope="module")
def minute(test_data, tmp_path_factory) -> np.ndarray:
    """60 s of real speech at 16 kHz."""
    files = sorted((test_data / "media/ravdess_speech_16k").glob("*.flac"))[::60]
    samples = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files])
    return samples[: 60 * 16000]


def result_of(path, section, encoder):
    clips = SpeechClips(section, encoder)
    (result,) = [*clips.add(read_speech(path, section).arrays), *clips.rest()]
    return result


def encode(samples, tmp_path, *words: str):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    section = config_of(*words).speech
    result = result_of(path, section, load_encoder(section))
    if not result.outcome.usable:
        raise ClipError(result.outcome.status, result.outcome.reason)
    return result.arrays


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("rate", [0, 25])
def test_middle_of_a_long_file_is_what_the_middle_alone_gives(weights, minute, tmp_path, encoder, rate):
    words = f"speech.encoder={encoder}", f"speech.rate={rate}"
    whole, middle = (
        encode(minute, tmp_path, *words),
        encode(minute[20 * 16000 : 40 * 16000], tmp_path, *words),
    )
    border = 5.0
    time = middle["time"]
    inner = (time > border) & (time < 20 - border)
    there = np.searchsorted(whole["time"], time[inner] + 20 - 1e-6)
    np.testing.assert_allclose(whole["time"][there], time[inner] + 20, atol=1e-9)
    a, b = whole["states"][there].astype(np.float64), middle["states"][inner].astype(np.float64)
    assert np.abs(a - b).max() < 1e-3
    assert (np.diff(whole["time"]) > 0).all() and whole["time"][-1] == pytest.approx(60, abs=0.05)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_seam_where_windows_meet(weights, minute, tmp_path, encoder):
    """A row differs from the one before it no more where one window takes over than elsewhere."""
    states = encode(minute[: 16000 * 30], tmp_path, f"speech.encoder={encoder}", "speech.rate=0")["states"]
    step = np.linalg.norm(np.diff(states.astype(np.float64), axis=0), axis=2).mean(axis=1)
    rate = {"smart-turn": 50, "resemblyzer": 100}[encoder]
    seams = np.concatenate(
        [np.arange(int((k * 5 + 1.0) * rate), int((k * 5 + 2.0) * rate)) for k in range(1, 5)]
    )
    rest = np.setdiff1d(np.arange(len(step)), seams)
    assert step[seams].max() <= step[rest].max()
    assert np.percentile(step[seams], 90) <= np.percentile(step[rest], 90)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rows_answer_to_the_sound_at_their_time(weights, minute, tmp_path, encoder):
    """A burst of 60 ms at 1.5 s changes the rows there most, and earlier ones by its share of the level."""
    clip = minute[16000 * 10 : 16000 * 13].copy()
    burst = clip.copy()
    burst[24000:24960] += np.random.default_rng(0).normal(scale=0.02, size=960).astype(np.float32)
    words = f"speech.encoder={encoder}", "speech.rate=0", "speech.layers=[1]"
    a, b = encode(clip, tmp_path, *words), encode(burst, tmp_path, *words)
    change = np.abs(a["states"].astype(float) - b["states"].astype(float)).mean(axis=(1, 2))
    assert 1.48 < a["time"][change.argmax()] < 1.62
    if encoder == "resemblyzer":  # a recurrent network does not look ahead
        assert change[a["time"] < 1.48].max() < 0.2 * change.max()


def test_the_same_bytes_on_repeat_and_layers_in_their_order(weights, minute, tmp_path):
    clip = minute[: 16000 * 12]
    first, again = encode(clip, tmp_path), encode(clip, tmp_path)
    assert first["states"].tobytes() == again["states"].tobytes()
    two = encode(clip, tmp_path, "speech.layers=[4,2]")
    np.testing.assert_allclose(
        two["states"].astype(float), first["states"][:, [3, 1]].astype(float), atol=2e-2
    )


def test_states_are_the_normalised_states_that_the_classifier_reads(weights, test_data, minute):
    """The last layer's states through the graph's own classifier are its verdict."""
    import onnxruntime

    from deiii.pipeline.encoders.whisper_mel import whisper_mel

    section = config_of("speech.layers=[4]", "speech.rate=0").speech
    states = load_encoder(section).network(minute[None, : 16000 * 8])
    whole = onnxruntime.InferenceSession(str(test_data / "weights/smart-turn-v3.2-cpu.onnx"))
    clip = minute[: 16000 * 8]
    mel = whisper_mel(((clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)).astype(np.float32))
    assert whole.run(None, {"input_features": mel[None]})[0].shape == (1, 1)
    assert states.shape == (1, 400, 1, 384)
    gain = states.std(axis=-1)
    assert np.isfinite(states).all() and 0.2 < gain.mean() < 5


def test_mel_of_whisper_is_that_of_transformers(minute):
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    from deiii.pipeline.encoders.whisper_mel import whisper_mel

    extractor = transformers.WhisperFeatureExtractor(chunk_length=8)
    expected = extractor(minute[: 16000 * 8], sampling_rate=16000, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(whisper_mel(minute[: 16000 * 8]), expected, atol=2e-3)


def test_lstm_is_that_of_torch_in_one_piece(weights, test_data, minute):
    """All three layers as one LSTM of torch; its last outputs are the third layer's."""

    from deiii.pipeline.encoders.resemblyzer import mel_power

    stored = torch.load(
        test_data / "weights/resemblyzer_pretrained.pt", weights_only=True, map_location="cpu"
    )
    stored = stored["model_state"]
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict({k[5:]: v for k, v in stored.items() if k.startswith("lstm.")})
    clip = minute[: 16000 * 3]
    gain = 10 ** (-30 / 20) / np.sqrt((clip.astype(float) ** 2).mean())
    assert gain > 1  # a quiet recording, which Resemblyzer raises to -30 dB
    with torch.no_grad():
        expected = lstm(torch.from_numpy(mel_power((clip * gain).astype(np.float32))[None]))[0].numpy()
    section = config_of("speech.encoder=resemblyzer", "speech.layers=[3]").speech
    network = load_encoder(section).network
    found = network(clip[None])[:, :, 0]
    with own_settings():
        np.testing.assert_array_equal(network(clip[None])[:, :, 0], found)
    np.testing.assert_allclose(found, expected[:, : found.shape[1]], atol=1e-5)


@pytest.mark.parametrize(
    "samples, status",
    [(np.zeros(16000), Status.NO_AUDIO), (np.ones(100) / 2, Status.TOO_SHORT)],
)
def test_unusable_audio_has_its_outcome(weights, tmp_path, samples, status):
    with pytest.raises(ClipError) as error:
        encode(samples.astype(np.float32), tmp_path)
    assert error.value.outcome.status is status


@pytest.mark.parametrize(
    "words, says",
    [
        (["speech.layers=[5]"], "has the layers 1, 2, 3, 4"),
        (["speech.layers=[2,2]"], "at most once"),
        (["speech.rate=30"], "which must be a multiple: 50, 25"),
        (["speech.window=20", "speech.step=9"], "smart-turn reads at most 8 s"),
        (["speech.step=9"], "so that windows overlap"),
        (["speech.encoder=faceres-deep"], "not an encoder of speech"),
        (["speech.encoder=no-such"], "choose one of smart-turn, resemblyzer"),
        (["speech.device=cpu", "speech.precision=float16"], "is for GPUs"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_work(weights, words, says):
    with pytest.raises(ConfigError, match=says):
        load_encoder(config_of(*words).speech)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_wrong_damaged_and_missing_weights_are_clear_errors(
    weights, test_data, tmp_path, monkeypatch, encoder
):
    file = {"smart-turn": "smart-turn-v3.2-cpu.onnx", "resemblyzer": "resemblyzer_pretrained.pt"}[encoder]
    cut = tmp_path / file
    cut.write_bytes((test_data / "weights" / file).read_bytes()[:100_000])
    other = test_data / "weights/raft_small_princeton.pth"
    for path, says in ((cut, str(cut)), (other, "does not hold|no ONNX")):
        with pytest.raises(WeightsError, match=says):
            load_encoder(config_of(f"speech.encoder={encoder}", f"speech.weights={path}").speech)
    with pytest.raises(WeightsError, match="no such weights file"):
        stage_keys(config_of(f"speech.encoder={encoder}", "speech.weights=/nowhere/x.onnx"))
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="it is damaged or another file under this name"):
        load_encoder(config_of(f"speech.encoder={encoder}").speech)


def test_a_gpu_with_too_little_memory_does_not_make_weights_wrong(weights, monkeypatch):
    def full(layer, *place):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.LSTM, "to", full)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        load_encoder(config_of("speech.encoder=resemblyzer").speech)


def test_key_follows_encoder_weights_layers_rate_and_windows(weights, tmp_path):
    def key(*words):
        return stage_keys(config_of(*words))["speech"]

    usual = key()
    assert key("speech.layers=[1,2,3,4]", "speech.window=8", "speech.step=5", "speech.rate=25") == usual
    assert key("speech.device=cpu", "speech.batch=7") == usual
    for word in ("encoder=resemblyzer", "layers=[1]", "rate=50", "step=4", "window=7", "precision=float16"):
        assert key(f"speech.{word}") != usual
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another network")
    assert key(f"speech.weights={other}") != usual


def test_rows_that_float16_cannot_hold_are_an_outcome(weights, minute, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, minute[:32000], 16000, subtype="FLOAT")
    section = config_of().speech
    encoder = load_encoder(section)
    network = encoder.network
    huge = replace(encoder, network=lambda windows: 1e6 * network(windows))
    outcome = result_of(path, section, huge).outcome
    assert outcome.status is Status.UNREADABLE
    assert "too large for float16; choose other layers" in outcome.reason
