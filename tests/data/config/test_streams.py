"""Lists of inputs: ``model.audio=[logmel,speech]`` and ``model.video=[frames,flow,appearance]``."""

from types import SimpleNamespace

import pytest

from deiii.data.config import streams
from deiii.data.config.load import load_config, parse_config, shipped_configs, to_yaml
from deiii.data.config.streams import unread_inputs
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


ALL = "stages=[faces,flow,logmel,speech,speech2,appearance]"


@pytest.mark.parametrize(
    ("overrides", "unread"),
    [
        ([], []),
        ([ALL, "model.audio=[speech,speech2]", "model.video=[appearance]"], []),
        (["stages=[faces,flow,logmel,speech]"], [(["speech"], "model.audio=[logmel,speech]")]),
        (
            ["stages=[faces,flow,logmel,appearance]"],
            [(["appearance"], "model.video=[frames,flow,appearance]")],
        ),
        (
            [ALL, "model.video=false", "model.audio=[speech2]"],
            [(["speech"], "model.audio=[speech2,speech]"), (["appearance"], "model.video=[flow,appearance]")],
        ),
        ([ALL, "model.video=[]", "model.extra=[appearance]"],
         [(["speech", "speech2"], "model.audio=[logmel,speech,speech2]")]),
    ],
)  # fmt: skip
def test_stages_that_the_network_does_not_read_come_with_a_setting_that_reads_them(overrides, unread):
    found = unread_inputs(load_config(overrides=overrides))
    assert found == unread
    settings = [setting for _, setting in found]
    before, after = load_config(overrides=overrides).model, load_config(overrides=overrides + settings).model
    assert set(after.extra) == {*before.extra, *(name for names, _ in unread for name in names)}
    assert (after.video, after.flow, after.audio) == (before.video, before.flow, before.audio)
    assert not unread_inputs(load_config(overrides=overrides + settings))


# ravdess_voices computes features for the network of another config, in which it is mixed.
@pytest.mark.parametrize("name", sorted({*shipped_configs()} - {"ravdess_voices"}))
def test_configs_of_deiii_read_all_stages_that_they_compute(name):
    assert not unread_inputs(load_config(name))


def test_a_stage_of_a_package_counts_where_the_network_can_read_it(monkeypatch):
    made = {
        "tokens": SimpleNamespace(modality="audio", upstream="logmel", large="x", shape=lambda *_: (3,)),
        "parts": SimpleNamespace(modality="audio", upstream="tokens", large="x", shape=lambda *_: (3,)),
        "maps": SimpleNamespace(modality="video", upstream="faces", large="x", shape=lambda *_: (3, 8, 8)),
    }
    monkeypatch.setattr(streams, "installed", lambda group: made)
    monkeypatch.setattr(streams, "load_plugin", lambda group, name: made[name])
    config = load_config()
    config.stages = ["logmel", "tokens", "maps"]
    assert unread_inputs(config) == [(["tokens"], "model.audio=[logmel,tokens]")]
    config.stages = ["logmel", "tokens", "parts"]
    assert unread_inputs(config) == [(["parts"], "model.audio=[logmel,parts]")]
