"""Corpora without a modality can be trained on and evaluated; figures without each stream are reported."""

from __future__ import annotations

import csv
import json
from fractions import Fraction

import av
import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.make import render_clip
from deiii.data.corpora.synthetic.plan import plan_clip
from tests.helpers.shared_worker import preprocess

DRAWN = SyntheticConfig(speakers=5, clips_per_class=1, seconds=0.8, size=128)


def silent_video(path, plan) -> None:
    """Write a synthetic clip as H.264 without an audio track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width = stream.height = plan.size
        stream.pix_fmt = "yuv420p"
        for n, image in enumerate(np.stack(list(render_frames(plan)))[:10]):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Four speakers with three clips each, of which one has sound; tables of all and of the silent ones."""
    folder = tmp_path_factory.mktemp("silent")
    (folder / "raw").mkdir()
    rows = []
    for index in (s * 8 + n for s in range(4) for n in range(3)):
        plan = plan_clip(DRAWN, index)
        path = folder / f"raw/{plan.id}.mp4"
        if index % 8 == 2:
            path.parent.mkdir(parents=True, exist_ok=True)
            render_clip(str(folder / "raw"), DRAWN, index)
        else:
            silent_video(path, plan)
        rows.append([f"{plan.id}.mp4", plan.speaker.name, ("narrow", "wide")[index % 2]])
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={folder / 'raw'}"]
    words += [f"cache={folder / 'cache'}", "faces.size=64", "faces.detector=haar", "flow.method=dis"]
    words += ["max_failed=1.0", "loader.steps=2", "loader.crop=48", "loader.batch=4", "train.epochs=1"]
    words += ["model.channels=[8,8,8]", "model.width=16", "model.grid=2", "train.device=cpu"]
    tables = {"all": rows, "silent": [r for r in rows if not r[0].endswith("002.mp4")]}
    for name, table in tables.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["path", "speaker", "label"], *table])
        assert preprocess(*words, f"corpus.table={folder / name}.csv") == 0
    return folder, words


def evaluated(folder, words, table, name):
    run, words = folder / name, [*words, f"corpus.table={folder / table}.csv"]
    assert main(["train", *words, f"train.run={run}", "--quiet"]) == 0
    assert main(["evaluate", str(run)]) == 0
    return json.loads((run / "metrics.json").read_text())


def test_silent_videos_train_and_evaluate_without_audio(mixed):
    folder, words = mixed
    metrics = evaluated(folder, [*words, "model.audio=false"], "silent", "video-only")
    assert metrics["test"]["uar"] is not None
    assert set(metrics["without"]) == {"frames", "flow"}
    assert metrics["clips"]["test"] == {"in_split": 2, "scored": 2, "unlabelled": 0}


def test_a_network_for_an_input_that_no_clip_has_is_refused(mixed, capsys):
    folder, words = mixed
    run = folder / "refused"
    assert (
        main(["train", *words, f"corpus.table={folder / 'silent'}.csv", f"train.run={run}", "--quiet"]) == 1
    )
    assert "has any audio; add model.audio=false" in capsys.readouterr().err
    assert not (run / "config.yaml").exists()  # no run was started


def test_a_bimodal_network_scores_silent_clips_too_and_reports_each_missing_stream(mixed):
    metrics = evaluated(*mixed, "all", "bimodal")
    assert metrics["clips"]["test"] == {"in_split": 3, "scored": 3, "unlabelled": 0}
    assert set(metrics["without"]) == {"frames", "flow", "audio", "frames+flow"}
    assert metrics["heads"]["video"]["clips"] == 3 and metrics["heads"]["audio"]["clips"] == 1
    assert all(row["war"] is not None for row in metrics["without"].values())
