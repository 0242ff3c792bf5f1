"""Networks travel: saved to folders, uploaded to a stand-in of the Hugging Face Hub, and loaded again."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deiii import from_pretrained, load
from deiii.data.sharing.licences import LICENCES
from deiii.model.prediction.export import export
from deiii.model.prediction.hub import HubError, download, upload
from deiii.model.prediction.manifest import ExportError, known_licence
from tests.helpers.hub_server import running_hub

ROOT = Path(__file__).parents[3]
hub_library = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install 'deiii[hub]'")
ModelCard = hub_library.ModelCard

IN_A_PROCESS = """
import sys
import tomllib
from deiii import from_pretrained, load
from deiii.model.prediction.hub import HubError
try:
    exec(sys.argv[1])
except HubError as error:
    sys.exit(f"HubError: {error}")
"""


@pytest.fixture
def hub(tmp_path):
    """A stand-in that runs; `call(code)` runs Python in a process that uses it."""
    with running_hub() as (address, repositories):

        def call(code: str, token: str = "hf_test", **settings: str) -> subprocess.CompletedProcess:
            import os

            env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": token}
            env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
            env |= settings
            return subprocess.run(
                [sys.executable, "-c", IN_A_PROCESS, code], env=env, capture_output=True, text=True
            )

        yield call, repositories


def test_a_network_comes_back_from_the_hub_bit_for_bit(hub, seen_run, tmp_path):
    call, repositories = hub
    done = call(f"print(load({str(seen_run / 'run')!r}, 'cpu').push_to_hub('user/name', program=False))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/user/name") and repositories.private["user/name"]
    _, files = repositories.commits["user/name"][-1]
    assert {"deiii.json", "model.safetensors", "README.md"} <= files.keys()
    target = tmp_path / "back"
    done = call(f"from_pretrained('user/name', device='cpu').save_pretrained({str(target)!r})")
    assert done.returncode == 0, done.stderr
    for name in ("deiii.json", "model.safetensors", "README.md"):
        assert (target / name).read_bytes() == files[name]
    one, other = load(seen_run / "run", device="cpu"), load(target, device="cpu")
    for a, b in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    clip = seen_run / "raw/c0.mp4"
    assert one.predict(clip).probabilities == other.predict(clip).probabilities


def test_only_files_of_an_export_are_downloaded(hub, seen_run, tmp_path):
    call, repositories = hub
    folder = export(seen_run / "run", tmp_path / "out", program=False)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    repositories.commit("some/one", {**files, "deiii.pt2": b"program", "code.py": b"raise SystemExit(3)"})
    first = repositories.commits["some/one"][-1][0]
    repositories.commit("some/one", {"deiii.json": b"{}"})
    code = f"print(sorted(p.name for p in load('hub:some/one@{first}', 'cpu').source.iterdir()))"
    done = call(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['README.md', 'deiii.json', 'model.safetensors']"


def test_faults_are_one_line_with_a_remedy(hub, seen_run):
    call, repositories = hub
    repositories.commit("some/other", {"README.md": b"no network"})
    for code, token, words in (
        ("load('hub:no/where')", "hf_test", "cannot be downloaded"),
        ("load('hub:some/other')", "hf_test", "not a network of deiii"),
        (f"load({str(seen_run / 'run')!r}, 'cpu').push_to_hub('user/x', program=False)", "wrong", "HF_TOKEN"),
    ):
        done = call(code, token)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_revision_is_a_word_of_its_own_too(hub, seen_run, tmp_path):
    call, repositories = hub
    folder = export(seen_run / "run", tmp_path / "out", program=False)
    first = repositories.commit("some/one", {p.name: p.read_bytes() for p in folder.iterdir()})
    repositories.commit("some/one", {"deiii.json": b"{}"})
    done = call(f"print(from_pretrained('some/one', revision={first!r}, device='cpu').classes)")
    assert done.returncode == 0, done.stderr
    done = call("from_pretrained('some/one', device='cpu')")
    assert done.returncode != 0 and "no usable export" in done.stderr


def test_a_revision_of_a_folder_or_a_second_one_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is a folder, which has no revision='v1'"):
        from_pretrained(tmp_path, revision="v1")
    with pytest.raises(ExportError, match="names a revision already"):
        from_pretrained("user/name@v2", revision="v1")


@pytest.mark.parametrize("name", ["nothere", "./no/such", "/no/such/folder", "a/b/c"])
def test_a_name_that_can_only_be_a_folder_is_reported_as_one(name):
    with pytest.raises(ExportError, match=f"there is no folder '{name}'.*user/name"):
        from_pretrained(name)


def test_incomplete_uploads_are_reported_with_the_name_on_the_hub(hub, seen_run, tmp_path):
    call, repositories = hub
    folder = export(seen_run / "run", tmp_path / "out", program=False)
    manifest = (folder / "deiii.json").read_bytes()
    repositories.commit("some/half", {"deiii.json": manifest})
    listed = json.dumps({**json.loads(manifest), "members": ["member0", "member1"]}).encode()
    tensors = (folder / "model.safetensors").read_bytes()
    whole = {"deiii.json": listed, "member1/deiii.json": manifest, "member1/model.safetensors": tensors}
    repositories.commit("some/weights", whole | {"member0/deiii.json": manifest})
    repositories.commit("some/manifest", whole | {"member0/model.safetensors": tensors})
    repositories.commit("some/member", whole)
    for name, lost in (
        ("half", "model.safetensors"),
        ("weights", "member0/model.safetensors"),
        ("manifest", "member0/deiii.json"),
        ("member", "member0/deiii.json, member0/model.safetensors"),
    ):
        done = call(f"load('hub:some/{name}')")
        assert done.returncode == 1, done.stderr
        assert f"hub:some/{name} holds no {lost}" in done.stderr and "push_to_hub" in done.stderr


def test_a_wrong_revision_no_connection_and_a_cache_without_permission_have_cures(hub, tmp_path):
    call, repositories = hub
    repositories.commit("some/one", {"deiii.json": b"{}"})
    file = tmp_path / "file"
    file.touch()
    for code, settings, words in (
        ("load('hub:some/one@v9')", {}, "Name a branch, a tag or a commit"),
        ("load('hub:no/where')", {}, "HF_TOKEN"),
        ("load('hub:no/where')", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "Without a connection"),
        ("load('hub:no/where')", {"HF_HUB_OFFLINE": "1"}, "Without a connection"),
        ("load('hub:some/one')", {"HF_HOME": str(file)}, "set it to a folder that can be written"),
    ):
        done = call(code, **settings)
        assert done.returncode == 1 and words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and ".." not in done.stderr.replace("...", ""), done.stderr


def test_what_a_newer_version_wrote_needs_that_version(tmp_path):
    (tmp_path / "deiii.json").write_text('{"format": 9}')
    with pytest.raises(ExportError, match="update deiii"):
        load(tmp_path)
    (tmp_path / "deiii.json").write_text('{"format": 0}')
    with pytest.raises(ExportError, match="reads 1; export the run again"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["", "name", "../x/y", "a/b/c", "https://host/a/b", "user/na me"])
def test_what_names_no_repository_is_refused(name, tmp_path):
    for action in (download, lambda n: upload(tmp_path, n)):
        with pytest.raises(HubError, match="user/name"):
            action(name)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"pip install 'deiii\[hub\]'"):
        load("hub:user/name")
    # Beside a deiii without its dependencies, the extra would install PyTorch, too.
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    (requirement,) = project["optional-dependencies"]["hub"]
    monkeypatch.setattr(
        "deiii.data.tools.packages.requirements.missing_dependencies", lambda: ["torch>=2.11"]
    )
    with pytest.raises(HubError, match=f"pip install '{requirement}'$"):
        load("hub:user/name", backend="onnx")


def test_saving_replaces_exports_and_nothing_else(seen_run, tmp_path):
    network = load(seen_run / "run", device="cpu")
    folder = network.save_pretrained(tmp_path / "a", program=False)
    again = load(folder, device="cpu").save_pretrained(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in again.iterdir()
    }
    assert load(folder).save_pretrained(folder) == folder
    for target in (folder, tmp_path / "c"):  # what a copy cannot have is refused before anything is written
        with pytest.raises(ExportError, match=r"without model\.onnx.*export its run with --onnx"):
            load(folder).save_pretrained(target, onnx=True)
        with pytest.raises(
            ExportError, match="states the licence '.+'.*export its run with the licence 'CC0'"
        ):
            load(folder).save_pretrained(target, licence="CC0")
    with pytest.raises(TypeError, match="quantise"):
        load(folder).save_pretrained(tmp_path / "c", quantise=True)
    assert not (tmp_path / "c").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(ExportError, match="holds no export"):
        load(folder).save_pretrained(tmp_path / "mine")
    assert np.array_equal(from_pretrained(folder).classes, network.classes)


def meta_value(meta: dict, figure: str) -> float:
    """Return a figure of the test speakers from the metadata of a card."""
    (found,) = [m["value"] for m in meta["model-index"][0]["results"][0]["metrics"] if m["type"] == figure]
    return found


def test_card_has_the_hubs_metadata_and_the_licence(seen_run, tmp_path):
    text = (export(seen_run / "run", tmp_path / "a", program=False, licence="by Anna: ask")).joinpath
    card = text("README.md").read_text()
    meta = yaml.safe_load(card.split("---")[1])
    assert meta["license"] == "other" and meta["library_name"] == "deiii" and "by Anna: ask" in card
    assert meta["license_name"] == "by-anna-ask" and meta["intended_use"].startswith("Research")
    assert meta["metrics"] == ["recall", "accuracy", "f1"] and "base_model" not in meta
    again = ModelCard(ModelCard(card).content)
    assert again.data.to_dict() == ModelCard(card).data.to_dict() and again.text.startswith("\n# DE-III")
    assert {r.metric_type: r.metric_value for r in again.data.eval_results}["war"] == meta_value(meta, "war")
    metrics = json.loads((seen_run / "run/metrics.json").read_text())
    assert meta_value(meta, "uar") == metrics["test"]["uar"]
    assert json.loads(text("deiii.json").read_text())["licence"] == "by Anna: ask"
    assert all(words and name for words, name in LICENCES.values())
    assert known_licence("ravdess-audio-only-speech") == LICENCES["ravdess"][0]  # the name in a cache
