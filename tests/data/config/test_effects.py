"""Settings that have no effect beside the others are named before work; those that have one are not."""

from __future__ import annotations

import pytest

from deiii.__main__ import main
from deiii.data.cache.recipes import stage_keys
from deiii.data.command_line.notes import note_without_effect
from deiii.data.config.checks.effects import without_effect
from deiii.data.config.checks.rules import RULES
from deiii.data.config.keys import all_keys
from deiii.data.config.load import CONFIGS, load_config, to_yaml
from deiii.data.config.words import read_settings

HEADS_ALONE = ["model.video=[]", "model.audio=[speech]", "model.join=pooled", "model.head=linear"]
HEADS_ALONE += ["train.epochs=1", "train.optimizer=discriminant"]


def said(*words: str) -> list[str]:
    """The notes on command words."""
    named = [word.partition("=")[0] for word in words if "=" in word]
    return without_effect(read_settings(words), named)


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        (["faces.min_score=0.9"], "faces.detector=yunet"),
        (["ravdess", "corpus.synthetic.speakers=3"], "corpus.name=synthetic"),
        (["table", "corpus.channel=song"], "corpus.name=ravdess"),
        (["ravdess", "corpus.table=a.csv"], "corpus.name=table"),
        (["corpus.codes={a: b}"], "corpus.name=pattern"),
        (["stages=[faces]", "logmel.n_mels=40"], "the stage logmel"),
        (["stages=[logmel]", "faces.size=64"], "the stage faces"),
        (["stages=[faces,logmel]", "flow.method=raft"], "the stage flow"),
        (["speech.rate=50"], "the stage speech,"),
        (["stages=[faces,appearance]", "appearance.pixels=0..1"], "an ONNX file"),
        (["flow.updates=4"], "flow.method=raft"),
        (["cluster.queue=long"], "cluster.kind=slurm"),
        (["cluster.minimum=2"], "cluster.adaptive=true"),
        (["scheduler=tcp://a:1", "workers=3"], "clusters that deiii starts"),
        (["model.video=false", "loader.colour=0.5"], "model.video=true"),
        (["model.audio=false", "loader.spec_masks=3"], "model.audio=true"),
        (["model.flow=false", "model.flow_scale=2"], "model.flow=true"),
        (["model.flow=false", "loader.flow_frames=3"], "model.flow=true"),
        (["loader.flow_join=stack"], "loader.flow_frames above 1"),
        (["model.flow=false", "loader.flow_frames=3", "loader.flow_join=stack"], "model.flow=true"),
        (["model.join=pooled"], "model.extra"),
        (["model.standardise=true"], "model.extra"),
        (["model.imagenet_weights=a.pth"], "model.imagenet=true"),
        (["model.audio=false", "model.time_match=true"], "log-mel"),
        (["model.conformer=false", "model.blocks=3"], "model.conformer=true"),
        (["model.classes=false", "train.label_smoothing=0.2"], "model.classes=true"),
        (["train.w_match=1"], "model.time_match=true"),
        (["train.monitor=last", "train.patience=3"], "train.monitor"),
        (["model.audio=[speech]", "model.video=[]", "train.modality_dropout=0.4"], "several inputs"),
        (["model.name=gru", "train.w_audio=1"], "model.modality_heads=true"),
        (["train.shrinkage=0.5"], "train.optimizer=discriminant"),
        ([*HEADS_ALONE, "train.lr=0.1"], "train.optimizer=adamw or sgd"),
    ],
)
def test_one_line_says_what_the_setting_needs(words, needs):
    (line,) = [line for line in said(*words) if line.startswith(words[-1].partition("=")[0])]
    assert "has no effect here; it is for" in line and needs in line


@pytest.mark.parametrize(
    "words",
    [
        ["faces.detector=yunet", "faces.min_score=0.9"],
        ["stages=[appearance]", "faces.size=64"],
        ["corpus.synthetic.speakers=3"],
        ["model.audio=[speech]", "stages=[speech]", "speech.rate=25"],
        ["model.audio=[speech]", "loader.normalise=speaker"],
        ["model.join=pooled", "model.audio=[speech]", "model.balance=0.5", "model.standardise=true"],
        ["model.audio=false", "loader.spec_masks=0", "train.w_audio=0", "loader.time_shift=0"],  # off is off
        ["cluster.kind=slurm", "cluster.gpu=true", "cluster.gpu_directives=[--gres=gpu:1]", "workers=2"],
        ["loader.flow_frames=3", "loader.flow_join=stack"],
        ["flow.method=raft", "flow.updates=4", "flow.weights=a.pth"],
        ["model.name=vavl", "train.w_audio=1"],
        [*HEADS_ALONE, "train.shrinkage=0.5", "train.class_weights=true"],
    ],
)
def test_settings_with_an_effect_get_no_line(words):
    assert said(*words) == []


def test_every_rule_names_settings_that_exist():
    keys = all_keys()
    for rule in RULES:
        for name in rule.keys:
            assert name in keys or (name.endswith(".") and any(key.startswith(name) for key in keys)), name


@pytest.mark.parametrize(
    "change", ["faces.min_score=0.9", "flow.model=raft_large", "flow.updates=4", "flow.precision=float16"]
)
def test_what_has_no_effect_is_no_part_of_a_stage_key(change):
    assert said(change)
    assert stage_keys(load_config(overrides=[change])) == stage_keys(load_config())


def test_a_file_of_ones_own_is_a_request_and_a_shipped_one_or_a_record_is_none(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text("faces: {min_score: 0.9, every: 4}\nflow: {updates: 12}\n")  # 12 is the default
    record = tmp_path / "config.yaml"
    record.write_text(to_yaml(load_config(overrides=["faces.min_score=0.9"])))
    for words in (["tiny"], ["configs/tiny.yaml"], [str(record)], [str(own), "faces.detector=yunet"]):
        note_without_effect(read_settings(words), words)
        assert capsys.readouterr().err == ""
    note_without_effect(read_settings([str(own)]), [str(own)])
    assert capsys.readouterr().err == (
        "note: faces.min_score=0.9 has no effect here; it is for faces.detector=yunet\n"
    )


# Settings of ravdess_audio that a network without log-mel does not read.
OF_LOGMEL = [
    "logmel.n_mels", "logmel.trim_db", "loader.normalise", "loader.spec_masks", "loader.stretch",
    "loader.mel_shift", "loader.mel_warp", "loader.gain_db", "model.audio_channels", "model.audio_deltas",
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "noted"),
    [
        ("root: raw/ravdess", "root: /mine", []),
        ("n_mels: 40", "n_mels: 50", ["logmel.n_mels"]),
        # No copies: a setting less, another corpus.
        ("  mel_shift: 1.5\n", "", [key for key in OF_LOGMEL if key != "loader.mel_shift"]),
        ("name: ravdess\n", "name: table\n", ["corpus.modality", *OF_LOGMEL]),
    ],
)
def test_in_a_copy_of_a_shipped_configuration_only_changed_settings_are_requests(
    old, new, noted, tmp_path, capsys
):
    text = (CONFIGS / "ravdess_audio.yaml").read_text()
    assert text.count(old) == 1
    own = tmp_path / "own.yaml"
    own.write_text(text.replace(old, new))
    words = [str(own), "stages=[speech]", "model.extra=[speech]", "model.audio=false"]
    note_without_effect(read_settings(words), words)
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("note: ").partition("=")[0] for line in lines] == noted


def test_shipped_configs_ask_for_nothing_without_effect(capsys):
    """Words that people type with a configuration are judged by all that it sets."""
    assert said("ravdess", "faces.min_score=0.9") == []  # it sets faces.detector=yunet


def test_the_commands_say_it_before_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, word in (
        ("preprocess", "faces.min_score=0.9"), ("train", "train.w_match=1"),
        ("crossval", "train.w_match=1"), ("sweep", "train.w_match=[0.5,1]"),
    ):  # fmt: skip
        main([command, "table", "tiny", "corpus.root=none", "faces.detector=haar", word])
        note, rest = capsys.readouterr().err.split("\n", 1)
        assert note.startswith(f"note: {word} has no effect") and "error: " in rest
