"""Files of the kinds that public bug reports describe, each through the real stages with its right value."""

import csv
from pathlib import Path

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import Config
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from deiii.pipeline.stages.clip import run_clip
from tests.helpers.clipmaker import needs_shared, shared
from tests.helpers.flash_beep import look_and_listen

pytestmark = needs_shared
BEGINS = [0.48, 1.48, 2.48, 3.48]  # s: of the flashes and beeps in the files named flash_beep


def report(name):
    return shared(f"media/reports/{name}")


def stage(name, which="faces"):
    """Outcome and arrays of a stage of one file, with Haar's faces (no weights)."""
    config = Config()
    config.faces.detector = "haar"
    result = run_clip(which, report(name), config)
    return result.outcome, result.arrays


def frames(name):
    return [rgb for rgb, _ in read_video(report(name))]


@pytest.mark.parametrize(
    ("name", "shape"), [("F01_480p_854", (480, 853)), ("F01_short_side_256", (256, 455))]
)
def test_odd_displayed_width(name, shape, tmp_path):
    outcome, arrays = stage(f"{name}.mp4")
    assert outcome.status is Status.OK and len(arrays["frames"]) == 35
    assert frames(f"{name}.mp4")[0].shape == (*shape, 3)


@pytest.mark.slow
def test_odd_displayed_width_is_inspected(tmp_path):
    arguments = ["inspect", report("F01_short_side_256.mp4"), "faces.detector=haar", "flow.method=dis"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 1 and len(list(tmp_path.glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    ("name", "tolerance", "noted"),
    [
        ("F02_flash_beep_two_stamps_2s.mp4", 0.02, "2 timestamps of the video are wrong"),
        ("F02_flash_beep_one_sound_stamp_2s.flv", 0.002, "1 timestamp of the audio is wrong"),
        ("F02_flash_beep_h264.avi", 0.02, ""),
        ("F03_flash_beep_stamps_restart.flv", 0.02, "start again"),
    ],
)
def test_flashes_and_beeps(name, tolerance, noted):
    seen = look_and_listen(Path(report(name)))
    assert seen.flashes == pytest.approx(BEGINS, abs=tolerance)
    assert seen.beeps == pytest.approx(BEGINS, abs=tolerance)
    assert noted in seen.words if noted else seen.words == ""
    samples, _, missing = read_audio(report(name), 16000)
    assert missing == 0 and 3.9 < len(samples) / 16000 < 4.1


def test_avi_with_b_frames():
    outcome, arrays = stage("F02_h264_bframes.avi")
    np.testing.assert_allclose(arrays["time"], np.arange(75) / 25, atol=1e-6)
    assert outcome.status is Status.OK


def test_joined_recordings():
    outcome, arrays = stage("F03_joined_cat.mpg")
    assert outcome.status is Status.OK and "start again at 1.41 s" in outcome.reason
    assert len(arrays["time"]) == 70 and np.diff(arrays["time"]).max() < 0.06
    outcome, audio = stage("F03_joined_cat.mpg", "logmel")
    assert outcome.status is Status.OK and "start again" in outcome.reason
    assert audio["time"][-1] == pytest.approx(arrays["time"][-1] + 0.04, abs=0.03)
    once = read_audio(report("F03_joined_cat.flac"), 16000)[0]
    assert len(once) == 2 * 47648
    np.testing.assert_array_equal(once[:47648], once[47648:])  # the same recording twice


@pytest.mark.parametrize("flip", ["h", "v"])
def test_mirrored_video(flip):
    found = frames(f"F04_matrix_{flip}flip.mp4")
    plain = [rgb for rgb, _ in read_video(shared("media/grid/bbaf2n.mpg"))]
    for mine, original in list(zip(found, plain, strict=True))[::20]:
        mirrored = original[:, ::-1] if flip == "h" else original[::-1]
        errors = [np.abs(mine.astype(int) - o).mean() for o in (mirrored, original)]
        assert errors[0] < 6 < errors[1]


def test_channel_layout_that_changes():
    outcome, arrays = stage("F05_channels_6_then_2.ts", "logmel")
    assert outcome.usable and "channels changes (6, 2)" in outcome.reason
    assert arrays["time"][-1] - arrays["time"][0] > 2.35  # of 2 x 35 AC-3 frames, 2.44 s
    loud = arrays["logmel"].max(axis=1) > arrays["logmel"].max() - 50
    thirds = np.array_split(loud, 3)
    assert all(third.any() for third in thirds)


def test_default_tracks():
    outcome, arrays = stage("F06_silent_track_first_default_second.mp4", "logmel")
    assert outcome.status is Status.OK and "number 2 was used, the default one" in outcome.reason
    assert arrays["logmel"].max() > -10
    outcome, arrays = stage("F06_second_video_is_default.mkv")
    assert outcome.status is Status.OK and len(arrays["time"]) == 75
    assert "number 2 was used, the default one" in outcome.reason


@pytest.mark.parametrize(
    ("name", "first"), [("F07_picture_starts_late.mkv", 0.723), ("F07_last_frame_stands_still.mp4", 0)]
)
def test_whole_files_are_whole(name, first):
    outcome, arrays = stage(name)
    assert outcome.status is Status.OK and outcome.fraction == 1.0 and outcome.reason == ""
    assert arrays["time"][0] == pytest.approx(first) and len(arrays["time"]) == 75


def test_frame_size_that_changes():
    outcome, arrays = stage("F08_landscape_then_portrait.ts")
    assert outcome.usable and "34 of 230x288 px" in outcome.reason and "360x288" in outcome.reason
    width, height = arrays["box"][:, 2], arrays["box"][:, 3]
    ratio = width[arrays["valid"]] / height[arrays["valid"]]
    assert np.median(ratio[-20:]) == pytest.approx(np.median(ratio[:20]), rel=0.1)


def test_hdr_has_the_contrast_of_sdr():
    outcome, arrays = stage("F09_hdr_pq.mp4")
    assert outcome.status is Status.OK and "tone-mapped to SDR" in outcome.reason
    config = Config()
    config.faces.detector = "haar"
    plain = run_clip("faces", shared("media/grid/bbaf2n.mpg"), config).arrays["frames"]
    assert arrays["frames"].std() == pytest.approx(plain.std(), rel=0.05)
    assert np.abs(arrays["frames"].mean(axis=(0, 1, 2)) - plain.mean(axis=(0, 1, 2))).max() < 8


def test_levels():
    outcome, _ = stage("F10_opposite_phase.wav", "logmel")
    assert outcome.status is Status.OK and "opposite phase" in outcome.reason
    outcome, _ = stage("F11_dc_offset_silence.wav", "logmel")
    assert outcome.status is Status.NO_AUDIO and "silent" in outcome.reason
    outcome, arrays = stage("F12_float_in_int_scale.wav", "logmel")
    assert outcome.status is Status.OK and "divided by 32768" in outcome.reason
    loud = stage("F10_opposite_phase.wav", "logmel")[1]["logmel"].max()
    assert arrays["logmel"].max() == pytest.approx(loud, abs=1.0)  # the same recording


@pytest.mark.slow
def test_notes_reach_the_table_of_failures(tmp_path):
    with open(tmp_path / "clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label"])
        writer.writerows([name, "s", "x"] for name in ("F04_matrix_hflip.mp4", "F09_hdr_pq.mp4"))
    status = main(
        ["preprocess", "configs/table.yaml", f"corpus.root={shared('media/reports')}",
         f"corpus.table={tmp_path / 'clips.csv'}", f"cache={tmp_path / 'cache'}", "faces.detector=haar",
         "flow.method=dis", "workers=1"]
    )  # fmt: skip
    assert status == 0
    (table,) = (tmp_path / "cache").rglob("failures.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(r["path"], r["stage"], r["status"]) for r in rows] == [("F09_hdr_pq.mp4", "faces", "ok")]
