"""Each clip counts the same, in the validation loss and in training, whatever the batches are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deiii.data.config.schema import TrainConfig
from deiii.model.distributed.devices import seed_all
from deiii.model.network.deiii import DEIII
from deiii.model.training.losses import total_loss
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import score
from deiii.model.training.trainer import Diverged, Trainer
from tests.helpers.model_helpers import CLASSES, MELS, MemoryLoader, random_batch, small_config, take
from tests.model.training.test_trainer import history, trainer

CPU = torch.device("cpu")


def network(attributes=2):
    seed_all(0)
    names = ["valence", "arousal"][:attributes]
    return DEIII(small_config(attributes=names), CLASSES, attributes, MELS)


@pytest.mark.parametrize("clips", [33, 34])
def test_the_validation_loss_does_not_depend_on_the_batch(clips):
    """33 clips end with a batch of one, whose CCC is undefined; a mean over batches gave 1.00 to 2.00."""
    model, batch = network(), random_batch(clips, steps=3, hops=12, seed=4)
    batch.attributes[::5, 0] = torch.nan
    batch.soft[3] = 0
    config = TrainConfig()
    losses = [
        score(model, MemoryLoader(batch, size, training=False).epoch(0), CPU, config).loss
        for size in (4, 8, 16, 32, 64)
    ]
    with torch.no_grad():
        whole, _ = total_loss(model.eval()(batch), batch, w_video=config.w_video, w_audio=config.w_audio)
    assert losses == pytest.approx([whole.item()] * 5, abs=1e-5)


class Padded(MemoryLoader):
    """As the real loader: no clip is dropped, the last batch is filled with rows that do not count."""

    def __len__(self):
        return math.ceil(len(self.clips) / self.batch)


def test_a_clip_of_a_short_last_batch_has_the_gradient_of_any_other(tmp_path):
    """Without dropout and batch statistics the gradients of an epoch sum to that of all clips, per clip."""
    found = trainer(tmp_path, Padded, modality_dropout=0.0, epochs=1, label_smoothing=0.0, clip_norm=0.0)
    clips = random_batch(19, steps=3, hops=12, size=16, seed=1)
    found.train = Padded(clips, 8, training=False)
    gradients, seen = [], []
    found.model.eval()
    found.model.train = lambda mode=True: (
        found.model
    )  # stays in evaluation mode: no dropout, fixed statistics
    found.training_step.optimizer.step = lambda: gradients.append(
        torch.cat([p.grad.flatten() for p in found.model.parameters() if p.grad is not None]).clone()
    )
    for batch in found.train.epoch(0):
        found.training_step(batch)
        seen.append(int(batch.real.sum()))
    assert seen == [8, 8, 3]
    found.model.zero_grad()
    total_loss(found.model(clips), clips, w_video=0.3, w_audio=0.3)[0].backward()
    whole = torch.cat([p.grad.flatten() for p in found.model.parameters() if p.grad is not None])
    torch.testing.assert_close(sum(gradients) * 8 / 19, whole, rtol=1e-3, atol=1e-6)


def test_the_training_loss_is_a_mean_over_clips(tmp_path):
    found = trainer(tmp_path, modality_dropout=0.0, epochs=1, lr=1e-12, label_smoothing=0.0)
    clips = random_batch(19, steps=3, hops=12, size=16, seed=1)
    found.train = Padded(clips, 8, training=False)
    losses = []
    with torch.no_grad():
        found.model.eval()
        for rows in (range(8), range(8, 16), range(16, 19)):
            part = take(clips, list(rows))
            losses += [total_loss(found.model(part), part)[0].item()] * len(rows)
    found.model.train = lambda mode=True: found.model
    found.fit(progress=False)
    assert float(history(tmp_path)[0]["train_loss"]) == pytest.approx(sum(losses) / 19, abs=1e-4)


def test_patience_and_clip_norm_of_zero_are_off(tmp_path):
    trainer(tmp_path / "patience", epochs=4, patience=0, lr=1e-12).fit(progress=False)
    assert len(history(tmp_path / "patience")) == 4
    trainer(tmp_path / "one", epochs=4, patience=1, lr=1e-12).fit(progress=False)
    assert len(history(tmp_path / "one")) < 4
    for name, norm in (("off", 0.0), ("large", 1e9)):
        trainer(tmp_path / name, epochs=1, clip_norm=norm).fit(progress=False)
    off, large = (history(tmp_path / name)[0]["train_loss"] for name in ("off", "large"))
    assert off == large


class NaNLoader(MemoryLoader):
    """Validation clips of which one holds NaN."""

    def epoch(self, number, start=0):
        for batch in super().epoch(number, start):
            logmel = batch.logmel.clone()
            logmel[0] = torch.nan
            yield replace(batch, logmel=logmel)


def test_a_validation_loss_that_is_nan_in_the_first_epoch_is_told(tmp_path):
    found: Trainer = trainer(tmp_path)
    found.val = NaNLoader(random_batch(8, steps=3, hops=12, size=16), 8, False)
    with pytest.raises(Diverged, match=r"validation loss became nan in epoch 0.*train.lr"):
        found.fit(progress=False)
    run = RunFolder(tmp_path)
    assert not run.best.exists() and not run.last.exists()
