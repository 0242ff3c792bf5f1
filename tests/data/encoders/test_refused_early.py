"""Encoders that cannot be computed or loaded as their settings or records say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import chosen
from deiii.pipeline.encoders import load


@pytest.mark.parametrize("stage", ["speech", "speech2", "appearance"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_on_a_cpu_is_refused_with_the_settings(stage, precision):
    words = [f"{stage}.device=cpu", f"{stage}.precision={precision}"]
    with pytest.raises(ConfigError, match=rf"{stage}.precision={precision} is for GPUs.*precision=float32"):
        load_config(overrides=[f"stages=[{stage}]", *words])
    assert load_config(overrides=["stages=[faces]", *words]).stages == ["faces"]  # the stage is not used
    load_config(overrides=[f"stages=[{stage}]", words[1]])  # a worker may have a GPU


@pytest.mark.parametrize(
    "place", ["deiii.no.such:load", "nowhere_at_all:load", "deiii.data:no_such", "deiii"]
)
def test_a_record_without_its_function_is_named(monkeypatch, place):
    config = load_config(overrides=["stages=[speech]", "speech.encoder=resemblyzer"]).speech
    own = chosen(config)
    monkeypatch.setattr(load, "chosen", lambda _: own._replace(encoder=replace(own.encoder, load=place)))
    monkeypatch.setattr(load, "resolve", lambda path, name: (path, ""))
    with pytest.raises(ConfigError, match=rf"the encoder resemblyzer is loaded by '{place}', which does not"):
        load.load_encoder(config)
