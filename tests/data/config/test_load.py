"""Settings: strict, safe, and helpful about mistakes; the files in configs/ all load."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.config.load import all_keys, changed_settings, load_config, parse_config, to_yaml
from deiii.data.config.schema import Config, result_params
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.protocol import load_protocol

CONFIGS = Path(__file__).parents[3] / "configs"


def from_text(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_defaults():
    assert load_config() == Config()
    assert load_config("tiny", "faces.every=3") == load_config(["tiny"], ["faces.every=3"])


def test_order_of_precedence(tmp_path):
    for name, size in (("a", 64), ("b", 72)):
        (tmp_path / f"{name}.yaml").write_text(f"faces:\n  size: {size}\n  every: {size}\n")
    config = load_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["faces.every=3", "faces.every=4"])
    assert (config.faces.size, config.faces.every) == (72, 4)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.lr=1e-3", 1e-3),
        ("train.lr=2", 2.0),
        ("train.lr=.5", 0.5),
        ("faces.size=96", 96),
        ("model.flow=false", False),
        ("corpus.table=null", None),
        ("corpus.table=a=b.csv", "a=b.csv"),
        ("stages=[faces, logmel]", ["faces", "logmel"]),
        # names stay names, though YAML 1.1 has numbers and dates like these
        ("corpus.root=1:30", "1:30"),
        ("corpus.root=2024-01-01", "2024-01-01"),
        ("corpus.root=007", "007"),
        ("corpus.root=0x10", "0x10"),
        ("corpus.root=1_000", "1_000"),
        ("corpus.root=C:\\clips", "C:\\clips"),
    ],
)
def test_overrides(override, value):
    config: object = load_config(overrides=[override])
    for part in override.partition("=")[0].split("."):
        config = getattr(config, part)
    assert config == value
    assert type(config) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("faces.siz=96", "did you mean 'faces.size'"),
        ("logmel.nmels=64", "did you mean 'logmel.n_mels'"),
        ("hop_ms=5", "did you mean 'logmel.hop_ms'"),
        ("flow.hop_ms=5", "did you mean 'logmel.hop_ms'"),
        ("zzzzzz=1", "unknown setting 'zzzzzz'"),
        ("faces.size.x=1", "did you mean 'faces.size'"),
        ("faces", "has the form key=value"),
        ("=1", "has the form key=value"),
        ("faces.size=large", "faces.size"),
        ("faces.size=1.5", "faces.size"),
        ("faces.size=true", "faces.size"),
        ("faces.size=null", "faces.size"),
        ("faces.size=", "faces.size"),
        ("train.lr=true", "train.lr"),
        ("train.lr=nan", "train.lr must be a finite number"),
        ("train.lr=inf", "train.lr must be a finite number"),
        ("workers=-1", "workers must be at least 0"),
        ("clip_timeout=0", "clip_timeout must be at least 1"),
        ("train.lr=.inf", "train.lr"),
        ("faces=3", "faces"),
        ("faces=", "faces"),
        ("stages=faces", "stages"),
        ("stages=[face]", "stages is one of faces, flow, logmel"),
        ("stages=[[faces]]", "stages"),
        ("model.attributes=[valance]", "valence, arousal, dominance"),
        ("faces.detector=dlib", "faces.detector is one of haar, yunet"),
        ("corpus.root=${oc.env:HOME}", "not supported"),
        ("corpus.root=${faces.size}", "not supported"),
        ("corpus.root=???", "not supported"),
        ("stages=[faces,'${oc.env:HOME}']", "not supported"),
    ],
)
def test_mistakes(override, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faces: !!python/object/apply:os.system ['touch pwned']", "not valid YAML"),
        ("faces: !!python/name:os.system", "not valid YAML"),
        ("faces: !include other.yaml", "not valid YAML"),
        ("faces: &f {size: 3}\nflow: *f", "aliases"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nfaces: [*c,*c]", "aliases"),
        ("faces: {size: 3}\nfaces: {every: 3}", "'faces' is set twice"),
        ("faces:\n  size: 3\n  size: 4", "'size' is set twice"),
        ("[" * 20_000, "not valid YAML"),
        ("- faces", "must hold sections"),
        ("faces", "must hold sections"),
        ("faces: [", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("1: 2", "unknown setting '1'"),
        ("faces.size: 3", "write faces.size as a section: a line .faces:."),
        ("\0", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path, text, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        from_text(tmp_path, text)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_files_that_cannot_be_read_as_a_config(tmp_path):
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes("corpus: {root: Größe}".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "latin.yaml")


def test_empty_file_and_byte_order_mark(tmp_path):
    assert from_text(tmp_path, "") == Config()
    assert from_text(tmp_path, "\ufefffaces: {size: 96}").faces.size == 96


@settings(max_examples=20)
@given(
    st.builds(dict, size=st.integers(16, 999), margin=st.floats(0, 1), fps=st.none() | st.floats(1, 99)),
    st.text("ab1:-/ .ä#'\"{", min_size=1, max_size=12),
    st.lists(st.sampled_from(["faces", "flow", "logmel"])),
)
def test_settings_survive_a_round_trip(faces, root, stages):
    config = Config(stages=stages)
    config.corpus.root = root
    for name, value in faces.items():
        setattr(config.faces, name, value)
    assert parse_config(to_yaml(config)) == config


def test_every_setting_has_a_help_text_and_its_default_is_allowed():
    assert len(all_keys()) == len(set(all_keys())) > 80
    parse_config(to_yaml(Config()))


def test_workers_and_devices_enter_no_key():
    config = load_config(overrides=["flow.device=cpu", "flow.batch=3", "flow.launch=compile"])
    assert result_params(config.flow) == result_params(Config().flow)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_load(path):
    config = load_config(path)
    assert path.read_text().startswith("# ")
    if config.split.protocol != "auto":
        load_protocol(config.split.protocol)


@pytest.mark.parametrize("name", ["ravdess", "ravdess_audio", "crema_d", "msp_improv", "table"])
def test_corpus_configs_say_where_and_under_which_licence(name):
    text = (CONFIGS / f"{name}.yaml").read_text()
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert "Licence" in header
    assert name == "table" or "https://" in header
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.corpus.name == name.removesuffix("_audio")
    assert (config.stages == ["logmel"]) == name.endswith("_audio")


def test_changed_settings_are_those_that_change_a_result():
    changed = ["train.lr=0.5", "faces.size=64", "model.channels=[4,8]"]
    free = ["workers=3", "corpus.root=elsewhere", "train.run=runs/other", "faces.weights=a.onnx"]
    found = changed_settings(Config(), load_config(overrides=[*changed, *free]))
    assert sorted(found) == [
        "faces.size: 112 -> 64", "model.channels: [16, 32, 64] -> [4, 8]", "train.lr: 0.001 -> 0.5",
    ]  # fmt: skip
    assert changed_settings(Config(), Config()) == []
