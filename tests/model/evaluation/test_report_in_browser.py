"""The report in headless Chromium: it fits a phone and is legible in light and dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deiii.data.cache.flow_codec import encode_flow
from deiii.model.evaluation.report import write_report
from deiii.model.evaluation.results import full_figures
from deiii.model.evaluation.sections.mistakes import worst_mistakes
from tests.model.evaluation.test_report import SPEAKERS, TASK, features, predictions, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")

# A page around the report that measures it; the report itself may run no scripts.
FRAME = """<!doctype html><html><body style="margin:0">
<iframe id="f" style="border:0;width:WIDTHpx;height:900px" srcdoc="REPORT"></iframe><script>
document.getElementById("f").onload = (event) => {
  const d = event.target.contentDocument, w = event.target.contentWindow;
  const style = (e) => w.getComputedStyle(e);
  const boxed = (e) => e.closest(".scroll, pre, details") !== null;
  const wide = [...d.body.querySelectorAll("*")].filter(
    (e) => !boxed(e) && e.getBoundingClientRect().right > WIDTH + 1);
  document.body.textContent = "MEASURED" + JSON.stringify({
    scroll: d.documentElement.scrollWidth, width: d.documentElement.clientWidth,
    wide: wide.map((e) => e.tagName + "." + e.className), page: style(d.body).backgroundColor,
    ink: style(d.body).color, card: style(d.querySelector("section")).backgroundColor,
    soft: style(d.querySelector(".soft")).color, size: parseFloat(style(d.body).fontSize),
    label: style(d.querySelector("svg text")).fill,
    images: [...d.images].map((i) => [i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width]),
    cut: [...d.querySelectorAll("table.confusion tbody span")].filter(
      (e) => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1).length,
    narrow: Math.min(...[...d.querySelectorAll("table:not(.stacked) td.text:not(:first-child)")].filter(
      (e) => e.closest(".scroll")).map((e) => e.getBoundingClientRect().width)),
    scripts: d.scripts.length, beyond: [...d.querySelectorAll(".scroll")].flatMap((box) => {
      const cell = box.querySelector("table.confusion tbody td, table:not(.confusion) td:nth-child(2)");
      return cell ? [cell.getBoundingClientRect().left - box.getBoundingClientRect().right] : [];
    }),
  }) + "END";
};
</script></body></html>"""


def browse(page: Path, *flags: str) -> str:
    """Return what Chromium prints for a page."""
    profile = page.with_suffix(".profile")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def measure(report: Path, width: int, dark: bool) -> dict:
    text = FRAME.replace("WIDTH", str(width)).replace("REPORT", html.escape(report.read_text("utf-8")))
    page = report.with_name(f"frame-{width}-{dark}.html")
    page.write_text(text, encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    printed = browse(
        page, scheme, f"--window-size={max(width, 500)},900", "--virtual-time-budget=5000", "--dump-dom"
    )
    return json.loads(html.unescape(re.search("MEASURED(.*)END", printed, re.S)[1]))


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A page with every section, mistakes with images included."""
    run, metrics, _ = write(tmp_path_factory.mktemp("report"))
    rng = np.random.default_rng(0)
    arrays = {
        "faces": {"frames": rng.integers(0, 256, (20, 40, 40, 3), np.uint8), "time": np.arange(20) / 25},
        "flow": encode_flow(rng.normal(size=(20, 40, 40, 2)).astype(np.float32), "int8"),
        "logmel": {"logmel": rng.normal(size=(80, 40)).astype(np.float16)},
    }
    known = features()
    known.arrays = lambda row: arrays
    found = predictions()
    metrics["test"] = full_figures(found, SPEAKERS, TASK)
    side = {"uar": 0.5, "uar_ci": [0.125, 0.875], "clips": 30, "speakers": 12}
    gap = {"uar": -0.125, "uar_ci": [-0.25, 0.125]}
    metrics["gaps"] = {"sex": {"female": side, "male": side, "difference": gap}, "speakers": {}}
    return write_report(run, metrics, run.read_info(), known, worst_mistakes(found, known, TASK))


def luminance(colour: str) -> float:
    channels = [float(c) / 255 for c in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_the_page_fits_and_is_legible(report, width, dark):
    found = measure(report, width, dark)
    assert found["scroll"] <= found["width"] == width and found["wide"] == []
    assert (luminance(found["page"]) < 0.1) == dark
    for colour in (found["ink"], found["soft"], found["label"]):
        assert contrast(colour, found["card"]) >= 4.5  # WCAG AA
    assert 110 <= found["narrow"] < width  # px: a column of words shows two words beside each other
    assert found["size"] >= 16 and found["scripts"] == 0
    assert len(found["images"]) == 4 and all(w > 300 and h > 100 for w, h, _ in found["images"])
    assert all(shown <= width for *_, shown in found["images"])


LONG = "a-label-without-a-single-blank-that-is-longer-than-sixty-characters"


@needs_chromium
@pytest.mark.parametrize("width", [360, 1100])
def test_long_names_of_classes_and_speakers_leave_the_numbers_in_view(tmp_path, width):
    run, metrics, _ = write(tmp_path)
    found = predictions()
    task = replace(TASK, classes=(f"{LONG}-1", f"{LONG}-2"))
    metrics["test"] = full_figures(found, np.array([f"{LONG}-{s}" for s in SPEAKERS]), task)
    page = write_report(run, metrics, {**run.read_info(), "classes": list(task.classes)}, features())
    measured = measure(page, width, dark=False)
    assert measured["scroll"] <= width and measured["wide"] == []
    assert len(measured["beyond"]) >= 4 and max(measured["beyond"]) < -20  # px left of the edge
    assert width > 360 or measured["cut"] == 0  # names that begin alike differ at their ends


@needs_chromium
def test_a_screenshot_is_not_blank(report):
    shot = report.with_name("shot.png")
    browse(report, f"--screenshot={shot}", "--window-size=500,1600")
    import cv2

    image = cv2.imread(str(shot))
    assert image.shape[:2] == (1600, 500) and image.std() > 10
