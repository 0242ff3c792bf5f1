"""The tasks order, binding and told: what tells the answer, what cannot, and why.

Exact statements are shown with twins: two plans with opposite answers whose clips agree in the input that
must not tell them. Statements about distributions are measured with linear probes on decoded files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import av
import cv2
import librosa
import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.make import make
from deiii.data.corpora.synthetic.plan import check, classes, clip_count, plan_clip
from deiii.data.corpora.synthetic.skin import LUMA, WITHOUT_LUMA
from deiii.data.corpora.synthetic.tasks import CELLS, ORDER_EDGE, ORDER_GRID, SHORTEST_ORDER, TREMBLE
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE

TASKS = ("order", "binding", "told")
FILES = {  # small corpora of 96 clips: 12 speakers, 4 clips of each class
    "order": {"seconds": 1.6, "size": 64, "fps": 10.0},
    "binding": {"seconds": 0.8, "size": 144, "fps": 12.5},
    "told": {"seconds": 0.8, "size": 128, "fps": 10.0},
}
CHANCE = 0.67  # 96 fair coins exceed it with a chance below 0.001


def settings(task, **changes):
    return SyntheticConfig(**{"task": task, "speakers": 12, "clips_per_class": 4, **FILES[task], **changes})


def plans_of(config):
    return [plan_clip(config, n) for n in range(clip_count(config))]


def decode(path):
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    return frames, sound


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """By task, each clip's plan, frames, sound and size of its file."""
    found = {}

    def of(task):
        if task not in found:
            root = tmp_path_factory.mktemp(task)
            make(root, settings(task), workers=1, progress=False)
            paths = [(plan, root / f"{plan.id}.mp4") for plan in plans_of(settings(task))]
            found[task] = [(plan, *decode(path), path.stat().st_size) for plan, path in paths]
        return found[task]

    return of


def answers(clips):
    return np.array([clip[0].label for clip in clips])


def unseen(clips, rows, target, components=0):
    """Accuracy of a logistic regression on speakers that it was not fitted on."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    if components:
        model = make_pipeline(PCA(components, random_state=0), model)
    groups = [clip[0].speaker.name for clip in clips]
    rows = np.array([np.ravel(row) for row in rows], float)
    return cross_val_score(model, rows, target, groups=groups, cv=GroupKFold(4)).mean()


def upright(plan, frames, size=64, half=1.0):
    """Crops of the face from the true landmarks: ``2 * half`` face units across, float32 [n,size,size,3]."""
    out = []
    for frame, points in zip(frames, landmarks(plan), strict=True):
        middle, across = points[:2].mean(0), (points[1] - points[0]) / (2 * plan.speaker.eye_distance)
        c, s = across / (across @ across) * size / (2 * half)
        turn = np.array([[c, s], [-s, c]])
        shift = np.array([size / 2, 0.455 * size]) - turn @ middle
        out.append(cv2.warpAffine(frame, np.column_stack([turn, shift]), (size, size)))
    return np.stack(out).astype(np.float32)


def redness(rgb):
    """Red against green, without luminance, as a share of the luminance."""
    return (rgb @ (WITHOUT_LUMA / np.square(WITHOUT_LUMA).sum())) / np.maximum(rgb @ LUMA, 20)


def check_equal_luminance(one, two):
    """Grey levels, of 255, differ by the rounding of single pixels, and by no more than 0.1 over a region."""
    gap = one.astype(np.float32) @ LUMA - two.astype(np.float32) @ LUMA
    assert np.abs(gap).max() < 2.5
    regions = gap.reshape(len(gap), 8, one.shape[1] // 8, 8, one.shape[2] // 8).mean((0, 2, 4))
    assert np.abs(regions).max() < 0.1


def by_cell(maps):
    """Means of [...,S,S] over `CELLS` x `CELLS` squares, [...,K]."""
    size = maps.shape[-1] // CELLS
    cells = maps.reshape(*maps.shape[:-2], CELLS, size, CELLS, size)
    return cells.mean((-3, -1)).reshape(*maps.shape[:-2], CELLS * CELLS)


def movement(crops):
    """Length of DIS flow between neighbouring grey crops, median over time, by cell: [K]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(crop.astype(np.uint8), cv2.COLOR_RGB2GRAY) for crop in crops]
    flow = [dis.calc(a, b, None) for a, b in zip(grey[:-1], grey[1:], strict=True)]
    return by_cell(np.median(np.linalg.norm(flow, axis=-1), axis=0))


# The plans


@pytest.mark.parametrize("task", TASKS)
def test_every_speaker_has_both_answers_equally_often(task):
    config = settings(task)
    counts = Counter((p.speaker.name, p.label) for p in plans_of(config))
    assert len(classes(task)) == 2 and len(counts) == 24
    assert set(counts.values()) == {4}


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_independent_of_the_coins_of_other_tasks(task):
    plans = plans_of(settings(task, speakers=24, clips_per_class=10))
    answer = [p.label == plans[0].label for p in plans]
    for bit in ("appearance", "voice"):
        other = [getattr(p, bit) for p in plans]
        table = np.zeros((2, 2))
        np.add.at(table, (np.array(answer, int), other), 1)
        assert chi2_contingency(table).pvalue > 0.001
    assert {p.motion for p in plans} == {0}


def planned(p):
    """All that a plan draws beside what tells the answer."""
    return [
        p.gain_db, p.hum_db, p.noise, p.light, p.quantiser, p.valence, p.arousal, *p.centre.mean(0),
        *p.centre.std(0), p.scale.mean(), p.roll.mean(), *p.bursts[0], *p.bursts[-1], len(p.bursts),
        p.pitch[0] / p.speaker.pitch, p.pitch[-1] / p.speaker.pitch, p.slope[0], p.slope[-1],
        p.opening.mean(), p.opening.std(), p.opening[: len(p.opening) // 2].mean(),
    ]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_planned_nuisances_do_not_tell_the_answer(task):
    clips = [(p,) for p in plans_of(settings(task, speakers=24, clips_per_class=12))]
    found = unseen(clips, [planned(c[0]) for c in clips], answers(clips))
    assert found < 0.5 + 3.3 * 0.5 / np.sqrt(len(clips)), found


def measured(clip):
    """File size, levels, brightness, noise: what a file shows beside its content."""
    _, frames, sound, size = clip
    grey = frames.astype(np.float32) @ LUMA
    corner = grey[:, :16, :16]
    seen = [grey.mean(), grey.std(), corner.std((1, 2)).mean(), corner.std(0).mean()]
    return [size, np.log(sound.std()), *seen, *planned(clip[0])]


@pytest.mark.parametrize("task", TASKS)
def test_nuisances_of_files_do_not_tell_the_answer(files, task):
    clips = files(task)
    assert unseen(clips, [measured(c) for c in clips], answers(clips)) < CHANCE


@pytest.mark.parametrize("task", TASKS)
def test_the_cascade_finds_the_faces(task):
    config = settings(task, speakers=24, clips_per_class=1, size=192)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for person in range(24):
        plan = plan_clip(config, 2 * person + person % 2)
        nose = landmarks(plan)[3, 2]
        grey = cv2.cvtColor(render_frames(replace(plan, roll=plan.roll[:4]))[3], cv2.COLOR_RGB2GRAY)
        boxes = cascade.detectMultiScale(grey, 1.1, 5, minSize=(60, 60))
        found.append(any(x < nose[0] < x + w and y < nose[1] < y + h for x, y, w, h in boxes))
    assert np.mean(found) >= 0.9  # of 100 other faces with freckles it finds 97


@pytest.mark.parametrize("task", TASKS)
def test_equal_settings_give_equal_bytes(task, tmp_path):
    config = settings(task, speakers=1, clips_per_class=1)
    for name, workers in (("one", 1), ("two", 2)):
        make(tmp_path / name, config, workers=workers, progress=False)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 4  # two clips, their table, the description
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


# Order


def test_syllables_are_apart_from_each_other_and_from_the_borders():
    for seconds in (1.3, 1.6, 3.0):
        for p in plans_of(settings("order", seconds=seconds)):
            (start, end), (second, last) = p.bursts
            assert second - end >= 0.28
            assert start >= ORDER_EDGE - 1e-9 and last <= p.seconds - ORDER_EDGE + 1e-9
            steps = (second - start) / ORDER_GRID
            assert steps == pytest.approx(round(steps), abs=1e-9)
            assert {*p.vowels.tolist()} == {0, 2}


def test_a_clip_too_short_for_two_syllables_is_refused():
    with pytest.raises(ValueError, match="corpus.synthetic.seconds is in 1.28..60 for .*task=order"):
        check(settings("order", seconds=1.2))
    check(settings("order", seconds=SHORTEST_ORDER))


def test_the_order_is_heard(files):
    """The vowel /i/ has less energy between 600 and 1200 Hz than /a/: compared between the two syllables."""
    right = []
    for plan, _, sound, _ in files("order"):
        level = []
        for start, end in plan.bursts:
            part = sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
            power = np.abs(np.fft.rfft(part)) ** 2
            hertz = np.fft.rfftfreq(len(part), 1 / SAMPLE_RATE)
            level.append(power[(hertz > 600) & (hertz < 1300)].sum() / power.sum())
        right.append((level[0] > level[1]) == (plan.label == "a-i"))
    assert np.mean(right) >= 0.98


def test_statistics_over_time_do_not_tell_the_order(files):
    """Moments over time of the log-mel spectrogram of decoded files, which a bag of windows could use."""
    clips, rows = files("order"), []
    for _, _, sound, _ in clips:
        mel = librosa.feature.melspectrogram(y=sound, sr=SAMPLE_RATE, n_fft=2048, hop_length=960, n_mels=40)
        mel = librosa.power_to_db(mel)
        change = np.diff(mel, axis=1)
        rows.append(np.concatenate([mel.mean(1), mel.std(1), (mel**3).mean(1), change.std(1)]))
    assert unseen(clips, rows, answers(clips), components=30) < CHANCE


def test_the_mouth_does_not_tell_the_order(files):
    clips = files("order")
    rows = [upright(plan, frames, 32)[:, 20:30, 8:24].mean((1, 2, 3)) for plan, frames, _, _ in clips]
    assert unseen(clips, rows, answers(clips)) < CHANCE


# Binding


def twin(plan, offset):
    """A plan with the opposite answer whose frames from ``offset`` in steps of two are the same."""
    f = plan.freckles
    moving = int(plan.label == "green")
    alternation = (-1.0) ** (np.arange(len(f.shift)) - offset)[:, None, None]
    still = np.where((f.colour == moving)[:, None], f.shift[offset], 0) + np.zeros_like(f.shift)
    trembling = np.where((f.colour != moving)[:, None], f.shift[offset], 0) * alternation
    return replace(plan, label=classes("binding")[1 - moving], freckles=replace(f, shift=still + trembling))


def recoloured(plan):
    """A plan with the opposite answer in which the same cells move."""
    other = classes("binding")[int(plan.label == "red")]
    return replace(plan, label=other, freckles=replace(plan.freckles, colour=1 - plan.freckles.colour))


@pytest.mark.parametrize("offset", [0, 1])
def test_frames_at_an_even_stride_fit_both_answers(offset):
    """Frames alone therefore give 0.5: their twin with the other answer is as frequent."""
    plan = plan_clip(settings("binding"), 3)
    other = twin(plan, offset)
    assert not np.allclose(other.freckles.shift, plan.freckles.shift)
    one, two = render_frames(plan), render_frames(other)
    np.testing.assert_array_equal(one[offset::2], two[offset::2])
    assert (one[1 - offset :: 2] != two[1 - offset :: 2]).any(axis=(1, 2, 3)).all()


def test_grey_frames_fit_both_answers():
    """Flow from grey frames therefore gives 0.5: the recoloured twin is as frequent, and moves alike."""
    for number in (0, 5, 30):
        plan = plan_clip(settings("binding"), number)
        one, two = render_frames(plan), render_frames(recoloured(plan))
        assert (one != two).any()
        check_equal_luminance(one, two)


def test_each_cell_has_each_colour_half_the_time_and_only_one_colour_moves():
    plans = plans_of(settings("binding"))
    for p in plans:
        f = p.freckles
        assert np.bincount(f.colour).min() >= 3
        moves = np.abs(np.diff(f.shift, axis=0)).sum((0, 2)) > 0
        np.testing.assert_array_equal(moves, f.colour == classes("binding").index(p.label))
        np.testing.assert_allclose(np.linalg.norm(f.shift, axis=-1), TREMBLE)
    share = np.mean([p.freckles.colour for p in plans], axis=0)
    assert np.abs(share - 0.5).max() < 4 * 0.5 / np.sqrt(len(plans))
    # Neither the number of red cells nor that of trembling cells depends on the answer.
    red = np.array([p.freckles.colour.sum() for p in plans])
    answer = np.array([classes("binding").index(p.label) for p in plans])
    moving = np.where(answer == 1, red, 16 - red)
    for count in (red, moving):
        gap = count[answer == 0].mean() - count[answer == 1].mean()
        assert abs(gap) < 4 * 2 * 2 / np.sqrt(len(plans))  # the deviation of a count is at most 2


@pytest.fixture(scope="module")
def seen(files):
    """By clip, how red each cell is in one frame, and how far DIS flow moves in it: two arrays [N,K]."""
    crops = [upright(plan, frames, 96) for plan, frames, _, _ in files("binding")]
    return np.array([by_cell(redness(c[2])) for c in crops]), np.array([movement(c) for c in crops])


def test_frames_and_flow_together_tell_which_colour_trembles(files, seen):
    red, moved = (x - x.mean(1, keepdims=True) for x in seen)
    found = np.where((red * moved).sum(1) > 0, "red", "green")
    assert np.mean(found == answers(files("binding"))) >= 0.95


def test_neither_frames_nor_flow_alone_tell_which_colour_trembles(files, seen):
    clips = files("binding")
    for rows in seen:
        assert unseen(clips, rows, answers(clips)) < CHANCE
        moments = np.stack([rows.mean(1), rows.std(1), rows.max(1), np.median(rows, axis=1)], axis=1)
        assert unseen(clips, moments, answers(clips)) < CHANCE
    pixels = [upright(plan, frames, 32)[2] for plan, frames, _, _ in clips]
    assert unseen(clips, pixels, answers(clips), components=20) < CHANCE


def test_sound_does_not_tell_which_colour_trembles(files):
    clips = files("binding")
    rows = [
        np.log(np.abs(np.fft.rfft(sound[:36000])).reshape(-1)[1:].reshape(40, -1).mean(1))
        for *_, sound, _ in clips
    ]
    assert unseen(clips, rows, answers(clips)) < CHANCE


# Told


def cheek_redness(plan, frames, k):
    """Redness of the cheeks in frame k against that between the brows."""
    red = redness(upright(plan, frames, 64)[k])
    return red[36:46, 10:22].mean() + red[36:46, 42:54].mean() - 2 * red[20:26, 28:36].mean()


def test_sound_and_frames_both_tell_the_bit(files):
    clips = files("told")
    low = []
    for _, _, sound, _ in clips:
        power = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
        low.append(power[(hertz > 600) & (hertz < 1300)].sum() / power[(hertz > 150) & (hertz < 600)].sum())
    assert unseen(clips, np.log(low)[:, None], answers(clips)) >= 0.98
    red = [[cheek_redness(plan, frames, k) for k in (1, 4)] for plan, frames, _, _ in clips]
    assert unseen(clips, red, answers(clips)) >= 0.95


def test_grey_frames_do_not_tell_the_bit():
    """So flow from grey frames does not either."""
    for number in (0, 9):
        plan = plan_clip(settings("told"), number)
        one, two = render_frames(plan), render_frames(replace(plan, blush=-plan.blush))
        assert (one != two).any()
        check_equal_luminance(one, two)
