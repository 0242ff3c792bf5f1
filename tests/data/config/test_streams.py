"""Lists of inputs: ``model.audio=[logmel,speech]`` and ``model.video=[frames,flow,appearance]``."""

import pytest

from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError


@pytest.mark.parametrize(
    ("overrides", "video", "flow", "audio", "extra"),
    [
        ([], True, True, True, []),
        (["model.audio=[logmel,speech]"], True, True, True, ["speech"]),
        (["model.audio=[speech]"], True, True, False, ["speech"]),
        (["model.audio=[]"], True, True, False, []),
        (["model.video=[appearance]"], False, False, True, ["appearance"]),
        (["model.video=[flow,appearance,frames]"], True, True, True, ["appearance"]),
        (["model.video=[frames]", "model.audio=[speech]"], True, False, False, ["speech"]),
        (["model.video=[appearance]", "model.audio=[speech]"], False, False, False, ["appearance", "speech"]),
        # A later list replaces what an earlier one said of its modality, and nothing else.
        (
            ["model.video=[appearance]", "model.audio=[speech]", "model.audio=[logmel]"],
            False, False, True, ["appearance"],
        ),
        (["model.extra=[speech]", "model.audio=[logmel]"], True, True, True, []),
        (["model.audio=[speech]", "model.audio=true"], True, True, True, ["speech"]),
        (["model.audio=[speech]", "model.extra=[]"], True, True, False, []),
    ],
)  # fmt: skip
def test_a_list_is_switches_and_extra(overrides, video, flow, audio, extra):
    config = load_config(overrides=overrides)
    found = config.model
    assert (found.video, found.flow, found.audio, found.extra) == (video, flow, audio, extra)
    assert parse_config(to_yaml(config)) == config


def test_lists_in_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model:\n  audio: [logmel, speech]\n  video: [appearance]\n  width: 32\n")
    model = load_config(path, ["model.audio=[speech]"]).model
    assert (model.width, model.video, model.flow, model.audio) == (32, False, False, False)
    assert model.extra == ["appearance", "speech"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.audio=[appearance]",
            "'appearance' is not one of the audio inputs; audio inputs are logmel, speech",
        ),
        (
            "model.video=[speach]",
            "'speach' is not one of the video inputs; video inputs are frames, flow, appearance",
        ),
        ("model.audio=[speech,speech]", "names an input twice"),
        ("model.audio=[3]", "is not one of the audio inputs"),
        ("model.audio=[[speech]]", "is not one of the audio inputs"),
        ("model.flow=[flow]", "model.flow"),
    ],
)
def test_mistakes(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])
