"""The files that `deiii init` writes: their names, and that their settings are not noted as the user's."""

from __future__ import annotations

import pytest

from deiii.data.config.checks.effects import TRAINING, without_effect
from deiii.data.config.words import read_settings, requested_keys
from deiii.pipeline.init.look import look
from deiii.pipeline.init.write import file_name, write


def test_a_proposed_configuration_has_no_shipped_name(tmp_path):
    (tmp_path / "emotional_av").mkdir()
    assert file_name(tmp_path / "emotional_av") == "my_emotional_av.yaml"


@pytest.mark.parametrize("actors", [24, 12])  # of a part of RAVDESS, the split is another one
def test_settings_of_a_written_configuration_are_not_noted_and_typed_ones_are(actors, tmp_path):
    clips = tmp_path / "clips"
    for actor in range(1, actors + 1):
        for emotion in range(1, 9):
            path = clips / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    config = tmp_path / "mine.yaml"
    write(look(clips), clips, config, "")
    assert "mel_shift" in config.read_text()
    typed = ["stages=[speech]", "model.extra=[speech]", "model.audio=false", "loader.mel_shift=2"]
    words = [str(config), *typed]
    settings = read_settings(words)
    noted = without_effect(settings, requested_keys(settings, words), TRAINING)
    assert [line.partition("=")[0] for line in noted] == ["loader.mel_shift"]
