"""The setup of training: loaders of the network's inputs, and errors before the first step."""

from __future__ import annotations

import csv
import errno

import numpy as np
import pytest
import torch

from deiii.__main__ import main
from deiii.data.config.schema import Config, ModelConfig, TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import Stream
from deiii.data.tools.os_errors import STDOUT
from deiii.model.training.checkpoint import load
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunError
from deiii.model.training.start.checks import check_streams
from deiii.model.training.train import describe_parts, train
from tests.helpers.clips import audio_corpus
from tests.helpers.shared_worker import preprocess


def features_of(lengths: dict[str, list[int]]) -> FeatureSet:
    """Return a feature set of clips with these numbers of rows in each stage, without any data."""
    count = len(next(iter(lengths.values())))
    clips = [Clip(f"c{i}", f"c{i}.mp4", f"s{i}", "a") for i in range(count)]
    streams = {}
    for stage, rows in lengths.items():
        streams[stage] = Stream.empty(stage, count)
        streams[stage].length = np.array(rows, np.int64)
    corpus = Corpus("mine", "/nowhere", ("a",), tuple(clips))
    return FeatureSet(corpus, clips, dict.fromkeys(lengths, "k"), streams, {}, {})


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ({"faces": [3, 3, 3], "logmel": [0, 0, 9]}, "any audio; add model.audio=false"),
        ({"faces": [0, 0, 3], "logmel": [9, 9, 9]}, "any crops; add model.video=false"),
        ({"faces": [3, 3, 3], "flow": [0, 0, 3], "logmel": [9, 0, 9]}, "any flow; add model.flow=false"),
    ],
)
def test_an_input_that_no_training_clip_has_is_refused(lengths, says):
    with pytest.raises(ConfigError, match=says):
        check_streams(features_of(lengths), np.array([0, 1]))
    check_streams(features_of(lengths), np.array([0, 2]))  # one clip that has it is enough


def test_the_start_of_a_training_says_where_every_clip_is():
    features = features_of({"logmel": [9, 9, 9, 9]})
    features.clips[1] = Clip("c1", "c1.mp4", "s0", "a")  # a second clip of the first speaker
    rows = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([3])}
    assert describe_parts(features, rows) == (
        "training: 2 clips of 1 speaker; validation: 1 clip of 1 speaker; test: 1 clip of 1 speaker"
    )
    assert describe_parts(features, rows, copies=["c1"]).startswith(
        "training: 1 clip and 1 corrupted copy of 1 speaker; validation: 1 clip of"
    )
    rows = {"train": np.array([0, 2]), "val": np.array([], int), "test": np.array([3])}
    assert describe_parts(features, rows) == (
        "training: 2 clips of 2 speakers; validation: no clips; test: 1 clip of 1 speaker"
    )


def test_evaluation_may_read_more_audio_than_training():
    config = Config()
    config.model.video = config.model.flow = False
    config.loader.audio_steps, config.loader.eval_audio_steps, config.loader.batch = 24, 40, 2
    features = features_of({"logmel": [0, 0, 0]})
    for training, steps in ((True, 24), (False, 40)):
        loader = make_loader(features, np.arange(3), config, torch.device("cpu"), training)
        assert next(iter(loader.epoch(0))).audio_mask.shape == (2, steps)
    assert config.loader.audio_steps == 24


def test_one_seed_gives_the_same_weights_and_another_gives_others(tmp_path):
    """Through the commands, with the loader's threads, every audio augmentation, dropout and averaging."""
    audio_corpus(tmp_path / "raw", speakers=6)
    with open(tmp_path / "raw/clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label"])
        writer.writerows(
            [f"s{s}/c{n}.flac", f"s{s}", "low" if n % 2 else "high"] for s in range(6) for n in range(4)
        )
    words = ["configs/ravdess_audio.yaml", "corpus.name=table", f"corpus.root={tmp_path / 'raw'}"]
    words += [f"cache={tmp_path / 'cache'}", "split.protocol=speakers", "loader.batch=4"]
    words += ["train.epochs=2", "train.device=cpu"]
    assert preprocess(*words) == 0
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = tmp_path / name
        assert main(["train", *words, f"train.run={run}", f"train.seed={seed}", "--quiet"]) == 0
        weights.append(load(run / "last.safetensors")[0])
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    assert not torch.equal(*(w["fused_head.classes.weight"] for w in weights[1:]))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("file", [STDOUT, "run/last.safetensors"])
def test_a_full_disk_of_the_output_does_not_send_to_the_run_folder(tmp_path, monkeypatch, file, resume):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr("deiii.model.training.train._train", full)
    config = Config(
        model=ModelConfig(imagenet=False), train=TrainConfig(run=str(tmp_path / "run"), device="cpu")
    )
    with pytest.raises((OSError, RunError)) as caught:
        train(config, resume=resume)
    assert isinstance(caught.value, OSError) == (file == STDOUT)
    if file != STDOUT:  # sweeps and cross-validations resume, and have no option --resume
        assert str(caught.value).endswith(
            "run the same command again" if resume else "continue with --resume"
        )
