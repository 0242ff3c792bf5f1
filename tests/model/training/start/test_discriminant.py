"""Heads in closed form: linear discriminant analysis as in scikit-learn, weights, temperature."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from deiii.__main__ import main
from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.training.loaders import make_loader
from deiii.model.training.start.discriminant import Clips, discriminant, find_temperature
from deiii.model.training.trained import load_network
from tests.helpers.onnx_maker import speech_file
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows


def clips_of(x, labels, classes=3, weights=None) -> Clips:
    """Clips with hard labels."""
    targets = torch.eye(classes, dtype=torch.float64)[torch.as_tensor(labels)]
    weights = np.ones(len(x)) if weights is None else weights
    return Clips(
        torch.from_numpy(np.asarray(x, float)), targets, torch.from_numpy(np.asarray(weights, float))
    )


def drawn(count, width, seed=0, classes=3):
    """Features, [count,width], whose means differ between classes of unequal sizes, and the labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % (classes + 1) % classes
    means = rng.normal(3, 1, (classes, width))
    return means[labels] + rng.normal(size=(count, width)) @ rng.normal(size=(width, width)), labels


def scores(clips, shrinkage, x):
    coefficients, intercepts = discriminant(clips, shrinkage)
    return x @ coefficients.numpy().T + intercepts.numpy()


@pytest.mark.parametrize("shrinkage", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("width", [4, 60])
def test_scores_are_those_of_scikit_learn(width, shrinkage):
    """With more features than clips, scikit-learn sees the clips on all axes that they span."""
    x, labels = drawn(40, width)
    other = drawn(11, width, seed=1)[0]
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    axes = PCA(min(width, len(x) - 1), svd_solver="full").fit(x)
    reference.fit(axes.transform(x), labels)
    expected = reference.predict_log_proba(axes.transform(other))
    found = log_softmax(scores(clips_of(x, labels), shrinkage, other), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 1000), st.floats(0.05, 1), st.sampled_from([3, 40]), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_a_rotation_and_a_shift_of_the_features_change_no_scores(seed, shrinkage, width, shift):
    x, labels = drawn(20, width, seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    first = scores(clips_of(x, labels), shrinkage, x)
    moved = x @ turn + shift
    np.testing.assert_allclose(scores(clips_of(moved, labels), shrinkage, moved), first, rtol=1e-6, atol=1e-5)


def test_a_clip_of_twice_the_weight_counts_like_two_clips():
    x, labels = drawn(20, 5)
    twice = np.concatenate((x, x[:7])), np.concatenate((labels, labels[:7]))
    weights = np.where(np.arange(20) < 7, 0.2, 0.1)
    first, second = clips_of(*twice), clips_of(x, labels, weights=weights)
    for one, other in zip(discriminant(first, 0.3), discriminant(second, 0.3), strict=True):
        torch.testing.assert_close(one, other)


def test_a_soft_label_counts_for_each_class_with_its_share():
    """A clip that raters divide into 0.25 and 0.75 is two clips of these weights."""
    x, labels = drawn(20, 5)
    assert labels[0] == 0
    hard = clips_of(np.concatenate((x, x[:1])), np.append(labels, 1), weights=np.r_[0.25, np.ones(19), 0.75])
    soft = clips_of(x, labels)
    soft.targets[0] = torch.tensor([0.25, 0.75, 0.0])
    np.testing.assert_allclose(scores(soft, 0.3, x), scores(hard, 0.3, x), rtol=1e-7, atol=1e-7)
    # With more features than clips, other equations are solved; they have the same solution.
    x, labels = drawn(20, 60)
    wide = clips_of(x, labels)
    wide.targets[0] = torch.tensor([0.25, 0.75, 0.0])
    axes = PCA(19, svd_solver="full").fit_transform(x)
    narrow = wide._replace(features=torch.from_numpy(axes))
    np.testing.assert_allclose(scores(wide, 0.3, x), scores(narrow, 0.3, axes), rtol=1e-7, atol=1e-7)


def test_a_class_without_a_clip_is_never_predicted():
    x, labels = drawn(20, 5)
    found = scores(clips_of(x, labels, classes=4), 0.3, 3 * x)
    assert np.isfinite(found).all() and (found[:, 3] < found[:, :3].max(axis=1) - 20).all()


def test_clips_that_are_all_alike_give_the_priors():
    found = scores(clips_of(np.ones((6, 4)), [0, 0, 0, 1, 1, 2]), 0.3, np.ones((1, 4)))
    np.testing.assert_allclose(np.exp(log_softmax(found, axis=1)), [[1 / 2, 1 / 3, 1 / 6]])


def test_the_temperature_fits_scores_of_speakers_that_are_left_out():
    """scikit-learn leaves out the speakers, and the best of a list of temperatures is near the one found."""
    x, labels = drawn(60, 40)
    speakers = np.array([f"s{number // 15}" for number in range(60)])
    x += 3 * np.random.default_rng(1).normal(size=(4, 40))[np.arange(60) // 15]
    held = np.empty((60, 3))
    for train, other in LeaveOneGroupOut().split(x, labels, speakers):
        axes = PCA(min(40, len(train) - 1), svd_solver="full").fit(x[train])
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(
            axes.transform(x[train]), labels[train]
        )
        held[other] = model.decision_function(axes.transform(x[other]))
    tried = np.exp(np.linspace(0, np.log(1000), 4001))
    losses = [-log_softmax(held / t, axis=1)[np.arange(60), labels].mean() for t in tried]
    best = tried[int(np.argmin(losses))]
    assert 1.5 < best < 500
    assert find_temperature(clips_of(x, labels), list(speakers), 0.3) == pytest.approx(best, rel=2e-3)


def test_clips_of_one_speaker_keep_the_temperature_of_one():
    x, labels = drawn(20, 5)
    assert find_temperature(clips_of(x, labels), ["s"] * 20, 0.3) == 1


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Words for a corpus of tones with the features of two encoders, which are computed."""
    base = tmp_path_factory.mktemp("discriminant")
    write_rows(base / "raw", tone_rows(base / "raw", 5, 6, lambda _, n: ("high", "low")[n % 3 > 0]))
    rng = np.random.default_rng(0)
    words = [word for word in words_for(base / "raw", base / "cache") if not word.startswith("stages=")]
    words += ["stages=[logmel,speech,speech2]", "model.audio=[speech,speech2]", "model.video=[]"]
    for stage, width in (("speech", 6), ("speech2", 20)):
        filters = rng.normal(size=(width, 1, 320)).astype(np.float32)
        path = speech_file(base / f"{stage}.onnx", filters)
        words += [f"{stage}.encoder={path}", f"{stage}.outputs=[rows]"]
    words += ["model.join=pooled", "model.head=linear", "model.standardise=true", "model.balance=0.5"]
    assert preprocess(*words) == 0
    return words


def trained(words, run, *more):
    """The network and the features of a training with these words."""
    own = [*words, "train.optimizer=discriminant", f"train.run={run}", *more]
    assert main(["train", *own, "--quiet"]) == 0
    return (
        load_network(run),
        FeatureSet.open(load_config(own[:1], own[1:])),
        set(Split.load(run / "split.json").train),
    )


def numpy_vectors(features, training):
    """Mean and deviation of the rows of each stage, standardised and balanced by numpy; [N,52]."""
    parts = []
    for stage in ("speech", "speech2"):
        found = (features.arrays(row)[stage][get_stage(stage).large] for row in range(len(features)))
        rows = [x.reshape(len(x), -1).astype(float) for x in found]
        mean, variance = (np.array([f(x, axis=0) for x in rows]) for f in (np.mean, np.var))
        offset = mean[training].mean(axis=0)
        scale = np.sqrt((variance[training] + (mean[training] - offset) ** 2).mean(axis=0))
        vector = np.concatenate(((mean - offset) / scale, np.sqrt(variance / scale**2 + 1e-6)), axis=1)
        parts.append((vector - vector[training].mean(axis=0)) / vector[training].std(axis=0))
    # A stage weighs its features to the power 1 - balance; all weigh as much as their number together.
    widths = np.array([x.shape[1] for x in parts], float)
    total = widths**0.5
    factors = np.sqrt(total / total.sum() * widths.sum() / widths)
    return np.concatenate([f * x for f, x in zip(factors, parts, strict=True)], axis=1)


def test_the_trained_network_is_the_analysis_of_its_pooled_features(words, tmp_path):
    """The differences of the two logits are those of scikit-learn, divided by one temperature."""
    found, features, ids = trained(words, tmp_path / "run")
    training = np.array([clip.id in ids for clip in features.clips])
    x = numpy_vectors(features, training)
    labels = np.array([features.classes.index(clip.label) for clip in features.clips])
    axes = PCA(min(x.shape[1], training.sum() - 1), svd_solver="full").fit(x[training])
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    reference.fit(axes.transform(x[training]), labels[training])
    expected = reference.decision_function(axes.transform(x))
    loader = make_loader(
        features, np.arange(len(features)), found.config, torch.device("cpu"), training=False
    )
    logits = {}
    for batch in loader.epoch(0):
        rows = found.network.eval()(batch).fused.logits.detach().numpy()
        logits |= {int(i): row for i, row in zip(batch.index, rows, strict=True) if i >= 0}
    gap = np.array([logits[row][1] - logits[row][0] for row in range(len(features))])
    speakers = [clip.speaker for clip in features.clips]
    some = np.flatnonzero(training)
    temperature = find_temperature(
        clips_of(x[some], labels[some], classes=2), [speakers[row] for row in some], 0.3
    )
    np.testing.assert_allclose(gap * temperature, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_class_weights_make_the_classes_alike(words, tmp_path):
    """With inverse frequencies the priors are equal: halfway between the means, both are as probable."""
    found, features, ids = trained(words, tmp_path / "run", "train.class_weights=true")
    training = np.array([clip.id in ids for clip in features.clips])
    x = numpy_vectors(features, training)[training]
    labels = np.array([features.classes.index(clip.label) for clip in features.clips])[training]
    counts = np.bincount(labels)
    assert counts[0] != counts[1]
    middle = (x[labels == 0].mean(axis=0) + x[labels == 1].mean(axis=0)) / 2
    head = found.network.fused_head.first_layer()
    logits = head.weight.detach().double().numpy() @ middle + head.bias.detach().double().numpy()
    assert logits[0] == pytest.approx(logits[1], abs=1e-3)


def test_clips_of_a_mixture_have_the_weight_of_their_corpus(words, tmp_path):
    """Halfway between the weighted means, the scores differ by the logarithm of the weighted priors."""
    root, other = next(word.split("=")[1] for word in words if word.startswith("corpus.root=")), tmp_path
    write_rows(other, tone_rows(other, 5, 6, lambda _, n: ("high", "low")[n % 3 < 1], 215.0))
    assert preprocess(*(word.replace(f"corpus.root={root}", f"corpus.root={other}") for word in words)) == 0
    own = [word for word in words if word.startswith(("stages=", "speech", "model."))]
    mixed = load_config([], [*own, "corpus.name=table", f"corpus.root={other}"])
    (tmp_path / "mix.yaml").write_text(to_yaml(mixed))
    mix = [f"mix=[{tmp_path / 'mix.yaml'}]", "mix_weights=[3.5]"]
    found, features, ids = trained(words, tmp_path / "run", *mix)
    training = np.array([clip.id in ids for clip in features.clips])
    x = numpy_vectors(features, training)[training]
    labels = np.array([features.classes.index(clip.label) for clip in features.clips])[training]
    weights = np.where(np.asarray(features.part) == 1, 3.5, 1.0)[training]
    assert set(weights) == {1.0, 3.5}
    speakers = [clip.speaker for clip in features.clips if clip.id in ids]
    middle = sum(np.average(x[labels == c], axis=0, weights=weights[labels == c]) for c in (0, 1)) / 2
    expected = np.log(weights[labels == 1].sum() / weights[labels == 0].sum())
    head = found.network.fused_head.first_layer()
    logits = head.weight.detach().double().numpy() @ middle + head.bias.detach().double().numpy()
    temperature = find_temperature(clips_of(x, labels, 2, weights), speakers, 0.3)
    assert (logits[1] - logits[0]) * temperature == pytest.approx(expected, abs=2e-3)


def test_a_finished_run_is_resumed_evaluated_and_predicts(words, tmp_path, capsys):
    run = tmp_path / "run"
    trained(words, run)
    before = (run / "best.safetensors").read_bytes()
    again = ["train", *words, "train.optimizer=discriminant", f"train.run={run}", "--resume"]
    assert main(again) == 0
    assert (run / "best.safetensors").read_bytes() == before
    assert main(["evaluate", str(run)]) == 0
    assert json.loads((run / "metrics.json").read_text())["clips"]["test"]["scored"] == 6
    with open(run / "metrics.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    assert "linear discriminant analysis: fused from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "needed"),
    [
        ("model.head=hidden", "model.head=linear"),
        ("model.join=separate", "model.join=pooled"),
        ("model.audio=[logmel,speech]", "model.video, model.flow and model.audio off"),
        ("train.epochs=3", "train.epochs=1"),
        ("train.start=runs/other", "no train.start"),
    ],
)
def test_networks_that_have_more_than_linear_heads_are_refused(word, needed):
    own = ["model.video=[]", "model.audio=[speech]", "stages=[logmel,speech]", "model.join=pooled"]
    own += ["model.head=linear", "train.epochs=1", "train.optimizer=discriminant"]
    assert load_config([], own).train.shrinkage == 0.3
    with pytest.raises(ConfigError, match="train.optimizer=discriminant computes linear heads") as caught:
        load_config([], [*own, word])
    assert needed in str(caught.value)
