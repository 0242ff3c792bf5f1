"""Stages that enter the heads as mean and standard deviation of their rows (``model.join=pooled``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deiii.data.cache.stages import stages
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.evaluation.sections.layers import layer_weights
from deiii.model.network.deiii import DEIII
from deiii.model.network.extra_encoders import PooledEncoder, row_moments
from deiii.model.network.hide_streams import hide
from tests.helpers.extra_stages import APPEARANCE, EXTRA, SPEECH
from tests.helpers.model_helpers import MELS, random_batch, small_config


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The stages of another package, as if it were installed."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_moments_are_those_of_numpy_over_the_valid_rows(lengths, seed):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(5, 2, (len(lengths), 6, 3, 2)).astype(np.float32))
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    values[~mask] = float("nan")
    mean, variance = row_moments(values, mask)
    for clip, count in enumerate(lengths):
        rows = values[clip, :count].flatten(1).double().numpy()
        expected = (rows.mean(axis=0), rows.var(axis=0)) if count else (np.zeros(6), np.zeros(6))
        np.testing.assert_allclose(mean[clip], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(variance[clip], expected[1], rtol=1e-4, atol=1e-4)


def test_network_with_a_linear_head_holds_logistic_regression_on_the_same_statistics():
    """With the weights that scikit-learn finds, the network gives scikit-learn's probabilities."""
    rng = np.random.default_rng(0)
    lengths, labels = rng.integers(3, 9, 40), rng.integers(0, 3, 40)
    values = np.zeros((40, 8, 3, 6), np.float32)
    mask = np.arange(8) < lengths[:, None]
    scale = np.array([1e-2, 1.0, 50.0])[:, None]  # layers of unlike scale
    for clip in range(40):
        values[clip] = 100 + scale * (labels[clip] + rng.normal(0, 1, (8, 3, 6)))
    valid = [values[i, : lengths[i]].reshape(lengths[i], -1).astype(float) for i in range(40)]
    x = np.stack([np.concatenate((rows.mean(axis=0), rows.std(axis=0))) for rows in valid])
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(x, labels)

    config = small_config(
        extra=["speech"], video=False, flow=False, audio=False, join="pooled", head="linear", standardise=True
    )
    network = DEIII(config, 3, 0, MELS, extra=[EXTRA["speech"]]).eval()
    encoder = network.extra_encoders["speech"]
    rows, shown = torch.from_numpy(values), torch.from_numpy(mask)
    encoder.fit(*row_moments(rows, shown))
    network.fused_head.classes.weight.data = torch.from_numpy(reference[-1].coef_).float()
    network.fused_head.classes.bias.data = torch.from_numpy(reference[-1].intercept_).float()
    batch = random_batch(40, classes=3, extra=True)
    stream = replace(batch.extra["speech"], values=rows, mask=shown, time=torch.zeros(40, 8))
    found = network(replace(batch, extra={"speech": stream})).fused.logits.softmax(dim=1)
    np.testing.assert_allclose(found.detach(), reference.predict_proba(x), atol=2e-3)


def test_vectors_are_standardised_over_the_clips_of_fit():
    encoder = PooledEncoder((3, 6), standardise=True)
    values = 7 + 3 * torch.randn(50, 9, 3, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(50, 9, dtype=torch.bool)
    encoder.fit(*row_moments(values, mask))
    vectors = encoder(values, mask)
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(36), rtol=0, atol=1e-4)
    torch.testing.assert_close(vectors.std(dim=0, correction=0), torch.ones(36), rtol=0, atol=1e-3)
    assert not encoder(values, torch.zeros_like(mask)).any()  # a clip without rows is the mean clip


@pytest.mark.parametrize("balance", [0.25, 0.75, 1.0])
def test_balance_gives_stages_weights_by_a_power_of_their_features(balance):
    """With standardised vectors the kernel of the heads is a weighted sum of the kernels of the stages."""
    names, features = ["speech", "appearance"], {"speech": 2 * 18, "appearance": 2 * 5}
    inputs = {"extra": names, "join": "pooled", "standardise": True, "head": "linear", "dropout": 0.0}
    off = {"video": False, "flow": False, "audio": False}
    made = [EXTRA[name] for name in names]
    seen = {}
    for value in (0.0, balance):
        network = DEIII(small_config(**inputs, **off, balance=value), 5, 0, MELS, extra=made).eval()
        batch = random_batch(64, extra=True)
        for name in names:
            encoder = network.extra_encoders[name]
            encoder.fit(*row_moments(batch.extra[name].values, batch.extra[name].mask))
        network.fused_head.mix.register_forward_pre_hook(lambda _, x, v=value: seen.update({v: x[0]}))
        network(batch)
    parts = {"appearance": slice(0, 10), "speech": slice(10, 46)}
    share = {n: seen[balance][:, own].square().sum() / seen[0.0][:, own].square().sum()
             for n, own in parts.items()}  # fmt: skip
    total = sum(features.values())
    expected = {n: f ** (1 - balance) for n, f in features.items()}
    for name, count in features.items():
        weight = float(share[name]) * count / total
        assert weight == pytest.approx(expected[name] / sum(expected.values()), rel=1e-4)


def test_balance_without_pooled_stages_is_refused():
    for changes in ({"join": "separate", "extra": ["speech"]}, {"join": "pooled", "extra": []}):
        made = [EXTRA[name] for name in changes["extra"]]
        with pytest.raises(ConfigError, match=r"model\.balance=0\.5 .* use model\.join=pooled"):
            DEIII(small_config(**changes, balance=0.5), 5, 0, MELS, extra=made)


def test_order_of_rows_has_no_effect_and_each_modality_keeps_its_own():
    torch.manual_seed(0)
    names = ["speech", "appearance"]
    network = DEIII(
        small_config(extra=names, join="pooled"), 5, 0, MELS, extra=[EXTRA[n] for n in names]
    ).eval()
    batch, other = random_batch(extra=True), random_batch(extra=True, seed=5)
    before = network(batch)
    turned = replace(batch.extra["speech"], values=batch.extra["speech"].values.flip(1))
    after = network(replace(batch, extra={**batch.extra, "speech": turned}))
    torch.testing.assert_close(after.fused.logits, before.fused.logits)
    after = network(replace(batch, extra={**batch.extra, "speech": other.extra["speech"]}))
    assert torch.equal(after.video.logits, before.video.logits)
    assert not torch.allclose(after.audio.logits, before.audio.logits, atol=1e-3)
    assert network(hide(batch, audio=True)).audio.present.all()
    assert not network(hide(batch, audio=True, speech=True)).audio.present.any()


def test_layer_weights_are_those_of_the_average_or_of_the_first_matrix():
    torch.manual_seed(0)
    names = ["speech", "appearance"]
    made = [EXTRA[n] for n in names]
    averaged = DEIII(small_config(extra=names), 5, 0, MELS, extra=made)
    averaged.extra_encoders["speech"].layers.data[:] = torch.log(torch.tensor([1.0, 2.0, 5.0]))
    found = layer_weights(averaged, {"speech": [3, 6, 9]})
    assert found == {
        "speech": {"3": pytest.approx(1 / 8), "6": pytest.approx(2 / 8), "9": pytest.approx(5 / 8)}
    }

    for head in ("linear", "hidden"):
        config = small_config(extra=names, join="pooled", standardise=True, head=head, pool="statistics")
        network = DEIII(config, 5, 0, MELS, extra=made)
        first = network.fused_head.first_layer()
        # Streams first: video and audio, 2 x width each; then appearance (5 features) and speech (3 x 6).
        assert first.in_features == 2 * 2 * config.width + 2 * 5 + 2 * 18
        first.weight.data.zero_()
        speech = first.weight.data[:, -36:].view(-1, 2, 3, 6)
        speech[:, :, 0], speech[:, :, 2] = 1.0, 2.0
        assert layer_weights(network, {})["speech"] == {
            "1": pytest.approx(0.2), "2": 0.0, "3": pytest.approx(0.8)
        }  # fmt: skip
