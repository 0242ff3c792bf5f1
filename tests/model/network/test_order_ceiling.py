"""Why the task ``order`` cannot be learned from audio without the Conformer, on the network itself."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from deiii.model.network.deiii import DEIII
from tests.helpers.model_helpers import MELS, random_batch, small_config

HOPS = 160


def with_syllables(plan, order):
    """The clip with its two syllables in an order, each with its length and pitch."""
    start, length = plan.bursts[:, 0], np.diff(plan.bursts, axis=1)[order, 0]
    start += (np.floor(start[0] * SAMPLE_RATE) + 0.5) / SAMPLE_RATE - start[0]  # both between two samples
    return replace(
        plan,
        bursts=np.stack([start, start + length], axis=1),
        pitch=plan.pitch[order],
        slope=plan.slope[order],
        vowels=plan.vowels[order],
    )


def logmel(plan):
    """Log-mel of the synthesised audio without background noise, float32 [L,M]."""
    sound = librosa.resample(render_voice(replace(plan, hum_db=-300.0)), orig_sr=SAMPLE_RATE, target_sr=16000)
    mel = librosa.feature.melspectrogram(
        y=sound, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=MELS
    )
    return torch.from_numpy(librosa.power_to_db(mel, top_db=80).T[:HOPS].astype(np.float32)) / 20


@pytest.mark.parametrize("audio_channels", [[], [8, 16, 32]])
@pytest.mark.parametrize("pool", ["attention", "statistics"])
def test_both_orders_give_the_same_scores_without_the_conformer(audio_channels, pool):
    plans = [plan_clip(SyntheticConfig(task="order"), n) for n in range(6)]
    sounds = torch.stack(
        [logmel(p) for plan in plans for p in (with_syllables(plan, [0, 1]), with_syllables(plan, [1, 0]))]
    )
    batch = replace(random_batch(12, hops=HOPS, mels=MELS), logmel=sounds)
    gaps = {}
    for conformer in (False, True):
        torch.manual_seed(0)
        config = small_config(
            video=False, flow=False, conformer=conformer, audio_channels=audio_channels, pool=pool
        )
        network = DEIII(config, 2, 0, MELS).eval()
        with torch.no_grad():
            for block in network.a_conformer.blocks if conformer else ():
                block.attention.out.weight *= 10  # a trained block is not near the identity
            scores = network(batch).fused.logits
        gaps[conformer] = (scores[::2] - scores[1::2]).abs().amax().item()
    assert gaps[False] < 5e-5
    assert gaps[True] > 1e-4
