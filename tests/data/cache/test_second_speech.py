"""``speech2``, the second speech encoder: a stage like ``speech`` with settings and a key of its own."""

from __future__ import annotations

import pytest

from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import extra_inputs, get_stage
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import chosen
from deiii.data.encoders.statement import used_encoders

WORDS = ["stages=[logmel,speech,speech2]", "model.audio=[speech,speech2]", "model.video=[]"]


@pytest.fixture(autouse=True)
def weights(test_data, monkeypatch):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(test_data / "weights"))


def test_each_encoder_has_its_own_settings_and_key():
    config = load_config(overrides=WORDS)
    keys = stage_keys(config)
    assert chosen(config.speech).encoder.name == "smart-turn"
    assert chosen(config.speech2).encoder.name == "resemblyzer"
    other = stage_keys(load_config(overrides=[*WORDS, "speech2.layers=[2]"]))
    assert other["speech"] == keys["speech"] and other["speech2"] != keys["speech2"]
    # The first stage's key does not depend on whether there is a second one.
    assert stage_keys(load_config(overrides=["stages=[speech]"]))["speech"] == keys["speech"]
    same = load_config(overrides=[*WORDS, "speech2.encoder=smart-turn"])
    assert same.speech2.encoder == same.speech.encoder
    assert get_stage("speech2").result_params(same) == get_stage("speech").result_params(same)


def test_the_network_reads_both_and_a_paper_names_both():
    config = load_config(overrides=WORDS)
    found = {x.name: (x.modality, x.shape) for x in extra_inputs(config)}
    assert found == {"speech": ("audio", (4, 384)), "speech2": ("audio", (3, 256))}
    told = [(s.stage, s.name) for s in used_encoders(config, ["speech", "speech2"])]
    assert told == [("speech", "smart-turn"), ("speech2", "resemblyzer")]


@pytest.mark.parametrize("section", ["speech", "speech2"])
def test_messages_name_the_section(section):
    config = load_config(overrides=[f"{section}.encoder=smart-turn", f"{section}.layers=[9]"])
    with pytest.raises(ConfigError, match=rf"^{section}\.layers=\[9\]: the encoder smart-turn"):
        chosen(getattr(config, section))
    config = load_config(overrides=[f"{section}.encoder=smart-turn", f"{section}.rate=7"])
    with pytest.raises(ConfigError, match=rf"^{section}\.rate=7: the encoder smart-turn"):
        chosen(getattr(config, section))
