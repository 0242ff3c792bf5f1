"""What enters the flow stage's key: all that changes flow, and nothing else."""

import pytest

from deiii.data.cache.recipes import recipes, stage_keys
from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.pipeline.preprocess.worker_settings import settled

RAFT = ["flow.method=raft", "flow.model=raft_small", "flow.weights=Raft_Small_Weights.C_T_V1"]


def key(*settings):
    return stage_keys(load_config(overrides=list(settings)))["flow"]


@pytest.mark.parametrize(
    "setting",
    ["flow.updates=6", "flow.precision=bfloat16", "flow.storage=float16", "faces.size=128",
     "flow.weights=Raft_Small_Weights.C_T_V2", "flow.method=tvl1"],
)  # fmt: skip
def test_what_changes_flow_changes_its_key(setting):
    assert key(*RAFT, setting) != key(*RAFT)


@pytest.mark.parametrize(
    "setting", ["flow.device=cpu", "flow.batch=32", "flow.launch=compile", "workers=3", "gpus=2"]
)
def test_what_does_not_change_flow_leaves_its_key(setting):
    assert key(*RAFT, setting) == key(*RAFT)


@pytest.mark.parametrize("setting", ["flow.model=raft_large", "flow.updates=6", "flow.precision=bfloat16"])
def test_settings_of_raft_change_nothing_for_other_methods(setting):
    assert key("flow.method=dis", setting) == key("flow.method=dis")


@pytest.fixture
def card(monkeypatch):
    """A function that gives this machine a GPU with a compute capability, or none."""

    def give(capability):
        monkeypatch.setattr("torch.cuda.is_available", lambda: capability is not None)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device=0: capability)

    return give


@pytest.mark.parametrize("capability,settings,resolved", [
    (None, (), "float32"),
    ((9, 0), (), "float16"),
    ((7, 0), (), "float16"),
    ((6, 1), (), "float32"),
    ((9, 0), ("flow.device=cpu",), "float32"),
    ((9, 0), ("flow.device=cuda",), "float16"),
    ((9, 0), ("gpus=0",), "float32"),
    (None, ("cluster.kind=slurm", "cluster.gpu=true"), "float16"),
    ((9, 0), ("cluster.kind=slurm",), "float32"),
])  # fmt: skip
def test_the_key_holds_the_precision_that_auto_stands_for(card, capability, settings, resolved):
    card(capability)
    assert key(*RAFT, *settings) == key(*RAFT, f"flow.precision={resolved}")
    config = load_config(overrides=[*RAFT, *settings])
    assert recipes(config)["flow"].provenance["params"]["precision"] == resolved
    assert settled(config).flow.precision == resolved  # what workers compute with
    assert recipes(settled(config))["flow"].key == key(*RAFT, *settings)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_precision_that_is_named_stays(card, precision):
    card((9, 0))
    config = load_config(overrides=[*RAFT, f"flow.precision={precision}"])
    assert recipes(config)["flow"].provenance["params"]["precision"] == precision
    assert settled(config) == config


def test_the_detectors_weights_enter_the_key_by_their_digest():
    yunet = recipes(load_config(overrides=["faces.detector=yunet"]))["faces"]
    assert yunet.provenance["weights"].startswith("8f2383e4")
    assert recipes(load_config())["faces"].provenance["weights"] is None


def test_the_demos_keys_stay():
    """A key changes only where a stage's result does: then its version rises, and this test with it."""
    found = stage_keys(load_config("synthetic"))
    assert found == {"faces": "5cc89c7be5a2", "flow": "81592c8d8315", "logmel": "e7e2f30ff518"}


def test_an_unknown_stage_is_told_with_those_that_exist():
    with pytest.raises(ConfigError, match=r"stage 'gaze'.*faces, flow, logmel.*package installed"):
        get_stage("gaze")
