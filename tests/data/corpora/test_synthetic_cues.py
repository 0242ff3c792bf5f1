"""Every cue can be measured in the input that carries it, and in no other input.

The measurements do not use the network: a logistic regression on eye patches, DIS flow between brows,
librosa's YIN. They decode the clips from their files.
"""

from dataclasses import replace

import cv2
import librosa
import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.make import make
from deiii.data.corpora.synthetic.plan import clip_count, envelope, plan_clip
from deiii.data.corpora.synthetic.voice import render_voice
from deiii.data.corpora.synthetic.write import write_clip
from tests.helpers.synthetic_tasks import CHANCE, decode

SMALL = SyntheticConfig(speakers=12, clips_per_class=1, seconds=0.8)
CROP, UNIT = 96, 30.0  # px; px per half the face's width in the crop


def crops(plan, frames):
    """Grey crops of one size, upright and centred, from the true landmarks."""
    out = []
    for frame, points in zip(frames, landmarks(plan), strict=True):
        middle, across = points[:2].mean(0), (points[1] - points[0]) / (2 * plan.speaker.eye_distance)
        c, s = across / (across @ across) * UNIT
        turn = np.array([[c, s], [-s, c]])
        shift = np.array([CROP / 2, 0.42 * CROP]) - turn @ middle
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        out.append(cv2.warpAffine(grey, np.column_stack([turn, shift]), (CROP, CROP)))
    return np.stack(out)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("cues")
    make(root, SMALL, workers=1, progress=False)
    return read(root, SMALL)


def read(root, config):
    """Each clip's plan, crops, sound, size of its file and frames."""
    rows = []
    for n in range(clip_count(config)):
        plan = plan_clip(config, n)
        path = root / f"{plan.id}.mp4"
        frames, sound = decode(path)
        rows.append((plan, crops(plan, frames), sound, path.stat().st_size, frames))
    return rows


def bits(clips):
    return {
        name: np.array([getattr(c[0], name) for c in clips]) for name in ("appearance", "motion", "voice")
    }


def unseen(clips, features, target, model=None):
    """Accuracy on speakers that were not fitted on."""
    model = model or make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    groups = [c[0].speaker.name for c in clips]
    return cross_val_score(model, features, target, groups=groups, cv=GroupKFold(4)).mean()


def eyes(grey):
    """The strip of both eyes, each frame at zero mean and unit variance."""
    strip = grey[34:50, 14:82].astype(float)
    return ((strip - strip.mean()) / strip.std()).ravel()


def brow_motion(grey):
    """Median over neighbouring frames of the brows' movement in px, against the cheeks'."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    steps = []
    for one, two in zip(grey[:-1], grey[1:], strict=True):
        v = dis.calc(one, two, None)[..., 1]
        steps.append(abs(np.median(v[26:34, 24:44]) + np.median(v[26:34, 52:72])) / 2)
    return np.median(steps)


@pytest.fixture(scope="module")
def moved(clips):
    return np.array([brow_motion(c[1][:9]) for c in clips])


def pitch_slope(plan, sound):
    """Mean slope of YIN's pitch within the bursts, octaves per s."""
    sound = librosa.resample(sound, orig_sr=48000, target_sr=16000)
    pitch = librosa.yin(sound, fmin=65, fmax=500, sr=16000, frame_length=1024, hop_length=160)
    time = np.arange(len(pitch)) * 0.01
    slopes = []
    for start, end in plan.bursts:
        inside = (time > start + 0.05) & (time < end - 0.05)
        slopes.append(np.polyfit(time[inside], np.log2(pitch[inside]), 1)[0])
    return np.mean(slopes)


def test_appearance_is_read_from_one_frame(clips):
    assert unseen(clips, [eyes(c[1][3]) for c in clips], bits(clips)["appearance"]) >= 0.98


def test_motion_is_read_from_flow_between_neighbours(clips, moved):
    assert ((moved > 0.5) == bits(clips)["motion"]).mean() >= 0.98


def test_voice_is_read_from_the_pitch(clips):
    falling = np.array([pitch_slope(c[0], c[2]) < 0 for c in clips])
    assert (falling == bits(clips)["voice"]).mean() >= 0.98


def fine_print(grey):
    """Brows, mouth, and how sharp and noisy each is: what coding might have left of a tremor."""
    parts = grey[24:36, 14:82].astype(float), grey[58:78, 30:66].astype(float)
    rough = [cv2.Laplacian(part, cv2.CV_64F) for part in parts]
    return np.concatenate(
        [*(p.ravel() for p in parts), *(50 * np.array([r.std(), abs(r).mean()]) for r in rough)]
    )


@pytest.mark.parametrize("name", ["motion", "voice"])
def test_sampled_frames_do_not_predict_motion_and_voice(clips, name):
    model = make_pipeline(PCA(20, random_state=0), StandardScaler(), LogisticRegression(max_iter=2000))
    sampled = [np.concatenate([fine_print(c[1][4]), fine_print(c[1][10])]) for c in clips]
    assert unseen(clips, sampled, bits(clips)[name], model) < CHANCE


def test_flow_of_the_brows_does_not_predict_the_other_bits(clips, moved):
    for name in ("appearance", "voice"):
        assert unseen(clips, moved[:, None], bits(clips)[name]) < CHANCE


def test_audio_does_not_predict_the_other_bits(clips):
    features = []
    for _, _, sound, _, _ in clips:
        mel = librosa.feature.melspectrogram(y=sound, sr=48000, n_fft=2048, hop_length=960, n_mels=40)
        mel = librosa.power_to_db(mel)
        features.append(np.concatenate([mel.mean(1), mel.std(1)]))
    for name in ("appearance", "motion"):
        assert unseen(clips, features, bits(clips)[name]) < CHANCE


def nuisances(clip):
    """What must not predict a label: file size, level, brightness, noise, place and size of the face."""
    plan, _, sound, size, frames = clip
    fine = frames[:, :20, :20].astype(float)
    seen = [
        size,
        np.log(sound.std()),
        frames.mean(),
        frames.std(),
        fine.std((1, 2)).mean(),
        fine.std(0).mean(),
    ]
    place = [*plan.centre.mean(0), plan.scale.mean(), plan.roll.mean(), plan.noise, plan.quantiser]
    planned = [plan.valence, plan.arousal, len(plan.bursts), plan.opening.mean(), *plan.bursts[0]]
    rest = [plan.light, plan.hum_db, plan.gain_db, plan.pitch.mean() / plan.speaker.pitch]
    return seen + place + planned + rest


@pytest.mark.parametrize("name", ["appearance", "motion", "voice"])
def test_nuisances_do_not_predict_any_bit(clips, name):
    assert unseen(clips, [nuisances(c) for c in clips], bits(clips)[name]) < CHANCE


@pytest.mark.slow
def test_nuisances_do_not_predict_whether_mouth_and_voice_match(tmp_path):
    config = replace(SMALL, task="sync", clips_per_class=4)
    make(tmp_path, config, workers=1, progress=False)
    clips = read(tmp_path, config)
    matched = np.array([c[0].label == "matched" for c in clips])
    assert len(clips) == 96 and matched.mean() == 0.5
    assert unseen(clips, [nuisances(c) for c in clips], matched) < CHANCE


def test_frames_at_an_even_stride_equal_those_of_a_still_twin(tmp_path):
    """After coding too: the two decoded files agree in every other frame, bit by bit."""
    plan = next(p for p in (plan_clip(SMALL, n) for n in range(8)) if p.motion == 1)
    twin = replace(
        plan,
        motion=0,
        brow=np.full_like(plan.brow, plan.brow[0]),
        quiver=np.full_like(plan.quiver, plan.quiver[0]),
    )
    decoded = []
    for name, p in (("tremor", plan), ("still", twin)):
        write_clip(tmp_path / f"{name}.mp4", render_frames(p), p.fps, render_voice(p), 48000, p.quantiser)
        decoded.append(decode(tmp_path / f"{name}.mp4")[0])
    np.testing.assert_array_equal(decoded[0][::2], decoded[1][::2])
    assert (decoded[0][1::2] != decoded[1][1::2]).any(axis=(1, 2, 3)).all()


def test_what_a_sampled_frame_shows_is_distributed_alike_in_still_and_trembling_clips():
    plans = [plan_clip(SyntheticConfig(), n) for n in range(576)]
    for offset in (0, 1):
        for what in ("brow", "quiver"):
            still, tremor = ([getattr(p, what)[offset] for p in plans if p.motion == m] for m in (0, 1))
            assert ks_2samp(still, tremor).pvalue > 0.01


def test_matched_mouths_follow_the_voice_and_unmatched_ones_do_not():
    config = SyntheticConfig(task="sync", speakers=10, clips_per_class=10)
    plans = [plan_clip(config, n) for n in range(clip_count(config))]
    together = []
    for p in plans:
        heard = envelope(np.arange(len(p.opening)) / p.fps, p.bursts)
        together.append(np.corrcoef(heard, p.opening)[0, 1])
    together, matched = np.array(together), np.array([p.label == "matched" for p in plans])
    assert together[matched].min() > 0.99
    assert together[~matched].max() < 0.25


@pytest.mark.parametrize("stream", ["opening", "sound"])
def test_neither_stream_alone_predicts_whether_they_match(stream):
    config = SyntheticConfig(task="sync", speakers=20, clips_per_class=15)
    plans = [plan_clip(config, n) for n in range(clip_count(config))]
    time = np.arange(40) / config.fps
    rows = np.array([p.opening if stream == "opening" else envelope(time, p.bursts) for p in plans])
    groups = [p.speaker.name for p in plans]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    features = np.column_stack([rows, rows.mean(1), rows.std(1), np.abs(np.diff(rows)).sum(1)])
    score = cross_val_score(model, features, [p.label for p in plans], groups=groups, cv=GroupKFold(5)).mean()
    assert score < 0.57  # 600 fair coins exceed it with a chance below 0.001


def test_audio_and_video_share_a_clock(clips):
    """The decoded audio has no lag against the synthesised one: AAC's priming is removed."""
    for plan, _, sound, _, _ in clips[:3]:
        synthesised = render_voice(plan)
        n = min(len(synthesised), len(sound))
        lags = np.arange(-1100, 1101)
        match = [np.dot(synthesised[1200 : n - 1200], sound[1200 + k : n - 1200 + k]) for k in lags]
        assert abs(lags[int(np.argmax(match))]) <= 2
