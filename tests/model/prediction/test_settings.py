"""Settings of this machine on top of those of a training."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.model.prediction.settings import override_settings


@pytest.mark.parametrize("preset", ["tiny", "base", "ravdess_speech"])
def test_without_changes_the_settings_are_a_copy_of_the_trainings(preset):
    config = load_config(preset)
    found, notes = override_settings(config, [])
    assert found == config == parse_config(to_yaml(config)) and notes == ()
    found.faces.size += 1
    found.model.audio = not found.model.audio
    assert config == load_config(preset)


def test_a_device_changes_and_the_trainings_settings_stay():
    config = load_config("tiny")
    found, notes = override_settings(config, ["flow.device=cpu"])
    assert found.flow.device == "cpu" and notes == ()
    assert config == load_config("tiny")
