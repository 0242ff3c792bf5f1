"""Settings of this machine on top of those of a training."""

from __future__ import annotations

import pytest

from deiii import from_pretrained, runtime
from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.files import MediaError
from deiii.model.prediction.files import find_media
from deiii.model.prediction.loading import load
from deiii.model.prediction.manifest import ExportError
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


def test_the_refusal_of_other_preprocessing_names_the_remedy_of_the_terminal_and_of_python():
    config = load_config("tiny")
    for remedy in ("--change-preprocessing", "change_preprocessing=True"):
        with pytest.raises(ConfigError, match=remedy):
            override_settings(config, ["faces.size=80"])
    found, notes = override_settings(config, ["faces.size=80"], change_preprocessing=True)
    assert found.faces.size == 80 and "preprocessing differs from training" in notes[0]


@pytest.mark.parametrize("name", [None, 3, ["a", 3], {"a": 1}.values(), b"runs/x"])
def test_what_is_no_name_of_a_network_is_refused_with_the_forms_of_one(name):
    with pytest.raises(TypeError, match=r"load\(\) takes a run folder, an exported folder, hub:user/name"):
        load(name)


@pytest.mark.parametrize("name", ["", "  ", ["a", ""]])
def test_an_empty_name_is_not_the_current_folder(name, tmp_path, monkeypatch):
    """A variable of the environment that is not set was the folder in which the program was started."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="the name of the network is empty"):
        load(name)
    with pytest.raises(ExportError, match="the name of the network is empty"):
        runtime.load(name)
    if isinstance(name, str):
        with pytest.raises(ExportError, match="the name of the network is empty"):
            from_pretrained(name, revision="v1")
    with pytest.raises(MediaError, match="is empty"):
        find_media([name] if isinstance(name, str) else name[1:])
