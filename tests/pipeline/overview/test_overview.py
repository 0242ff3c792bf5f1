"""The page about a corpus: its figures, its choice of clips, and how it behaves in a browser."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.cache.flow_codec import encode_flow
from deiii.data.cache.index import StageIndex, record_shard, stage_folder, write_index, write_table
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import ClipRow
from deiii.data.config.load import load_config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.pipeline.faces.quality import brightness, laplacian_variance
from deiii.pipeline.overview.choice import unusual, worst
from deiii.pipeline.overview.page import _reasons, heading, write_overview

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")
SAMPLED = [0, 1, 3, 4, 5, 6, 8, 9]  # eight of ten rows, evenly spaced
SPEAKERS = 12
HOSTILE = "</script><script>document.title='run'</script>"


def test_unusual_clips_are_those_far_from_the_median():
    figures = {f"c{i}": {"length": 3 + 0.1 * (i % 5), "fps": 25.0} for i in range(40)}
    figures["long"] = {"length": 9.0, "fps": 25.0}
    figures["slow"] = {"length": 3.0, "fps": 12.5}
    assert unusual(figures, ("length", "fps"), 10) == {"long": "length", "slow": "fps"}
    assert unusual(figures, ("length", "fps"), 1).keys() <= {"long", "slow"}
    assert unusual({}, ("length",), 5) == {}


def test_worst_clips_are_those_with_the_fewest_valid_frames():
    assert worst({"a": 100, "b": 40, "c": 90, "d": 40}, 3) == ["b", "d", "c"]


def rows(*reasons: str) -> dict[str, dict[str, ClipRow]]:
    """The rows of a stage in which each clip failed for a reason of its own."""
    return {"faces": {f"c{i}": ClipRow(f"c{i}", 0, 0, "missing", r, 0.0, "") for i, r in enumerate(reasons)}}


@pytest.mark.parametrize("first", [0, 1])
def test_the_letter_n_in_a_reason_is_no_number(first):
    reasons = ["the other file is 1.mp4", "the other file is n.mp4"]
    found = _reasons(rows(*(reasons if first else reasons[::-1])))
    assert sorted(reason for *_, reason, _ in found) == reasons


def test_numbers_of_one_value_have_an_order():
    spellings = ("7", "07", "007", "7.0", "7.00", "07.0")
    assert [row[3] for row in _reasons(rows(*(f"{s} s" for s in spellings)))] == ["007 to 7.00 s"]


def preprocessed(root: Path, count: int, size: int = 16, rows: int = 10):
    """The settings and corpus of a cache with known content, written by the real writer.

    Clip i is ``rows`` frames of 25 a second, its face is 50 + i % 7 px wide; every tenth has no face, every
    eleventh is only partly valid, the last two have equal media files, the first has a hostile name.
    """
    config = load_config(
        overrides=["corpus.name=table", f"cache={root}", f"faces.size={size}", "faces.detector=haar"]
        + ["flow.method=dis", "logmel.n_mels=8", "stages=[faces,flow,logmel]"]
    )
    rng = np.random.default_rng(0)
    names = [f"s{i % SPEAKERS}/c{i:05d}" for i in range(count)]
    names[0] = f"s0/{HOSTILE}"
    clips = [Clip(n, f"{n}.mp4", f"s{i % SPEAKERS}", ("happy", "sad")[i % 2]) for i, n in enumerate(names)]
    clips[1] = Clip(names[1], "x.mp4", "lonely", None)
    corpus = Corpus(
        "table", str(root / "nowhere"), ("happy", "sad"), tuple(sorted(clips, key=lambda c: c.id))
    )
    (root / "table").mkdir()
    write_table(root, corpus)
    number = {name: i for i, name in enumerate(names)}
    frames = rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    flow = encode_flow(np.full((rows, size, size, 2), (3.0, 4.0), np.float32), "int8")
    for stage, recipe in recipes(config).items():
        folder = stage_folder(root, "table", stage, recipe.key)
        folder.mkdir(parents=True)
        with ShardWriter(folder / "all.h5", stage, recipe.key) as writer:
            for clip in corpus.clips:
                i = number[clip.id]
                t = np.arange(rows) / 25
                valid = np.ones(rows, bool)
                outcome = Outcome(Status.OK)
                if i % 11 == 5:
                    valid[: rows // 2] = False
                    outcome = Outcome(Status.OK_PARTIAL, f"no face in {rows // 2} of {rows} frames", 0.5)
                box = np.tile(np.float32([0, 0, 50 + i % 7, 60]), (rows, 1))
                arrays = {
                    "faces": {
                        "frames": frames, "time": t, "valid": valid, "box": box, "interpolated": ~valid,
                        "landmarks": np.zeros((rows, 5, 2), np.float32),
                    },
                    "flow": {**flow, "time": t, "valid": valid},
                    "logmel": {"logmel": np.full((40, 8), -30, np.float16), "time": np.arange(40) / 100},
                }[stage]  # fmt: skip
                if stage != "logmel" and i % 10 == 3:
                    outcome, arrays = Outcome(Status.NO_FACE, f"no face in {i} frames", 0.0), {}
                source = f"{min(i, count - 2):064x}"
                writer.add(clip.id, outcome if stage != "logmel" else Outcome(Status.OK), arrays, source)
        index = StageIndex(stage, recipe.key, recipe.provenance, [record_shard(folder / "all.h5")])
        write_index(folder, index)
    return config, corpus


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["corpus.name=table"], "table-clips", "theatre"),
        (["corpus.name=table", "corpus.table=lists/evening.csv"], "table-evening", "evening in theatre"),
        (["corpus.name=ravdess"], "ravdess", "ravdess in theatre"),
        (["corpus.name=pattern", "corpus.title=voices"], "voices", "voices in theatre"),
    ],
)
def test_the_heading_is_the_name_that_people_gave(words, name, expected):
    corpus = Corpus(name, "/data/theatre", ("happy",), ())
    assert heading(load_config(overrides=words), corpus) == expected


def listed(page: Path) -> list[list]:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="clips">(.*?)</script>', text, re.S)[1])


def test_page_shows_known_figures_and_outcomes(tmp_path):
    config, corpus = preprocessed(tmp_path, 60)
    page = write_overview(config, corpus)
    assert page == tmp_path / "table/overview.html"
    text = page.read_text(encoding="utf-8")
    assert "<h1>nowhere</h1>" in text and "In the cache the corpus is called table." in text
    rows = {row[0]: row[1:] for row in listed(page)}
    assert len(rows) == 60
    # speaker, label, outcome, length, fps, height, face, valid, loudness, difference, flow, sharpness,
    # brightness, yaw, pitch, roll
    crops = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)[SAMPLED]
    assert rows["s4/c00004"] == [
        "s4",
        "happy",
        "ok",
        0.4,
        25.0,
        None,
        54,
        100,
        -30.0,
        0.0,
        pytest.approx(5, abs=0.05),
        *(round(median(f(crop) for crop in crops)) for f in (laplacian_variance, brightness)),
        *[None] * 3,  # Haar measures no landmarks
    ]
    assert rows["s3/c00003"][2] == "no_face" and rows["s3/c00003"][4:8] == [None, None, None, None]
    assert rows["s5/c00005"][2] == "ok_partial" and rows["s5/c00005"][7] == 50
    assert rows["s1/c00001"][1] == "no label"
    text = page.read_text(encoding="utf-8")
    assert "no face in 5 of 10 frames" in text and "1 media file is in the corpus more than once" in text
    # Reasons that differ in numbers are one kind for each stage, with the range of each number.
    assert text.count("no face in 3 to 53 frames") == 2
    assert write_overview(config, corpus, tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_names_are_never_run(tmp_path):
    config, corpus = preprocessed(tmp_path, 30)
    page = write_overview(config, corpus)
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text and listed(page)[0][0] == f"s0/{HOSTILE}"
    assert len(re.findall("<script", text)) == 2 and "script-src 'sha256-" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (500, True)])
def test_the_page_filters_in_a_browser(tmp_path, width, dark):
    """The script runs under the page's own policy; a copy of it is driven by a script of the test."""
    config, corpus = preprocessed(tmp_path, 60)
    page = write_overview(config, corpus)
    untouched = browse(page, width, dark)
    assert "60 clips" in untouched and "<title>nowhere: overview</title>" in untouched
    drive = """<script>
      const pick = (id, value) => { const e = document.getElementById(id);
        e.value = value; e.dispatchEvent(new Event(id === "search" ? "input" : "change")); };
      document.body.dataset.speakers = [...document.getElementById("speaker").options].map((o) => o.value);
      pick("search", "c00004"); document.body.dataset.one = document.getElementById("count").textContent;
      pick("search", ""); pick("speaker", "s2"); pick("label", "happy");
      const shown = [...document.querySelectorAll("figure[data-clip]:not([hidden])")];
      document.body.dataset.found = document.getElementById("count").textContent + "|" +
        shown.every((f) => f.dataset.speaker === "s2" && f.dataset.label === "happy") + "|" +
        (document.documentElement.scrollWidth <= innerWidth) + "|" +
        [...document.querySelectorAll("table.stacked td.text")].every(
          (e) => innerWidth > 600 || e.getBoundingClientRect().width > 0.8 * innerWidth);
    </script></body>"""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"script-src [^;\"]*", "script-src 'unsafe-inline'", text).replace("</body>", drive)
    driven = page.with_name("driven.html")
    driven.write_text(text, encoding="utf-8")
    wanted = sum(clip.speaker == "s2" and clip.label == "happy" for clip in corpus.clips)
    printed = browse(driven, width, dark)
    assert f'data-found="{wanted} clips|true|true|true"' in printed and 'data-one="1 clip"' in printed
    # "s2" comes before "s10".
    assert f'data-speakers=",lonely,{",".join(f"s{i}" for i in range(SPEAKERS))}"' in printed


def browse(page: Path, width: int, dark: bool) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},900"]
    flags += [f"--user-data-dir={page.with_suffix('.profile')}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_ten_thousand_clips_take_less_than_5_mb(tmp_path):
    config, corpus = preprocessed(tmp_path, 10_000, rows=3)
    assert write_overview(config, corpus).stat().st_size < 5_000_000


def test_command_names_the_page_and_the_remedy(tmp_path, capsys):
    (tmp_path / "clips.csv").write_text("path,speaker,label\na.mp4,s,happy\n")
    (tmp_path / "a.mp4").write_bytes(b"")
    words = ["corpus.name=table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}"]
    assert main(["overview", *words]) == 1
    assert "deiii preprocess" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["cache/table-clips", "cache/table-clips/overview.html", "elsewhere"])
def test_a_cache_that_cannot_be_written_names_the_option_of_another_file(
    tmp_path, capsys, monkeypatch, place
):
    (tmp_path / "clips.csv").write_text("path,speaker,label\na.mp4,s,happy\n")
    (tmp_path / "a.mp4").write_bytes(b"")

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / place))

    monkeypatch.setattr("deiii.pipeline.overview.page.write_overview", refuse)
    words = ["corpus.name=table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}"]
    assert main(["overview", *words]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / place}: its file system is read-only" in told
    assert ("--out" in told) == (place != "elsewhere")
