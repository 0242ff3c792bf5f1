"""The page on encoders: its package is installed, and the real commands use every way that it shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deiii.data.cache.index import read_index
from deiii.data.cache.shards import open_shard
from tests.helpers.onnx_maker import speech_file
from tests.helpers.tiny_settings import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto-encoder.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)


def run(words: list[str], folder: Path, status: int = 0) -> str:
    """Run Python with the installed package on its path; returns what it printed."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "DEIII_WEIGHTS_DIR": str(folder / "weights")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def wavlm(folder: Path) -> bool:
    """A tiny random WavLM in the place of the page's; whether transformers is there to make it."""
    try:
        import transformers
    except ImportError:
        return False
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.WavLMConfig(
        **sizes, conv_dim=(16, 16), conv_stride=(20, 16), conv_kernel=(40, 24), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    transformers.WavLMModel(config).save_pretrained(folder)
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder in which the page's commands ran."""
    folder = tmp_path_factory.mktemp("work")
    package = folder / "band-energy"
    package.mkdir()
    (package / "pyproject.toml").write_text(blocks("toml")[0])
    (package / "band_energy.py").write_text(blocks("python")[0])
    speech_file(folder / "encoder.onnx", np.random.default_rng(0).normal(size=(6, 1, 320)).astype(np.float32))
    has_transformers = wavlm(folder / "weights/microsoft/wavlm-base-plus")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    for line in "".join(blocks("console")).splitlines():
        words = shlex.split(line)
        if words[0] == "pip":
            run(["-m", "pip", *words[1:], *options, "--target", "site"], folder)
        elif has_transformers or "microsoft" not in line:
            module = ["-m", "deiii", *words[1:]]
            run([*module, *tiny(module)], folder)
    return folder


def caches(folder: Path) -> dict[str, Path]:
    """The caches of speech by encoder."""
    found = {}
    for path in (folder / "cache/synthetic-cues").glob("speech-*"):
        found[read_index(path).provenance["params"]["encoder"]] = path
    return found


def test_every_way_of_the_page_has_a_cache(folder):
    found = caches(folder)
    assert {"onnx", "bands"} <= set(found) <= {"onnx", "bands", "transformers/wavlm"}
    shapes = {"onnx": (2, 6), "bands": (1, 16), "transformers/wavlm": (2, 32)}
    for encoder, path in found.items():
        index = read_index(path)
        row = next(row for row in index.shards[0].clips if row.outcome.usable)
        arrays = open_shard(path / f"{index.shards[0].name}.h5").clip(row.id)
        assert arrays["states"].shape == (len(arrays["time"]), *shapes[encoder])
        assert np.allclose(np.diff(arrays["time"]), 0.04)
        assert (len(index.provenance["weights"] or "") == 64) == (encoder != "bands")


def test_network_reads_the_encoder_and_its_papers_name_it(folder):
    info = json.loads((folder / "runs/bands/run.json").read_text())
    (told,) = info["encoders"]
    assert (told["name"], told["trained_on"], told["emotion"]) == (
        "bands",
        "nothing",
        "none that its authors name",
    )
    for page in ("runs/bands/report.html", "exported/README.md"):
        text = (folder / page).read_text()
        assert "bands" in text and "motion corpora in its training: none" in text
    assert "speech" in json.loads((folder / "runs/bands/metrics.json").read_text())["without"]


def test_prediction_and_export_read_the_encoder(folder):
    (path,) = (folder / "predict").glob("*.json")
    told = json.loads(path.read_text())
    assert told["outcomes"]["speech"]["status"] == "ok"
    assert any("speech" in shares for shares in told["contributions"].values())
    inputs = json.loads((folder / "exported/deiii.json").read_text())["inputs"]
    assert inputs["speech_values"]["shape"][2:] == [1, 16]
    clip = "raw/synthetic/s01/s01-000.mp4"
    run(["-m", "deiii", "predict", "exported", clip, "--out", "again"], folder)
    run(
        [
            "-m",
            "deiii",
            "inspect",
            clip,
            "stages=[faces,logmel,speech]",
            "speech.encoder=bands",
            "--no-video",
        ],
        folder,
    )


def test_encoders_of_packages_are_listed_and_wrong_ones_named(folder):
    listed = run(["-m", "deiii", "encoders"], folder)
    assert "speech.encoder=bands" in listed and "FER-2013" in listed
    said = run(["-m", "deiii", "doctor", "stages=[speech]", "speech.encoder=band"], folder, 1)
    assert "choose one of smart-turn, resemblyzer, bands" in said
    lost = run(["-m", "deiii", "doctor", "stages=[speech]", "speech.encoder=gone.onnx"], folder, 1)
    assert "no such ONNX file: gone.onnx" in lost
