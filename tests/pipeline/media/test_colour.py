"""Colours: HDR and wide-gamut frames come as SDR, against the formulas of the standards, pixel by pixel."""

import av
import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.colour import BT2020, HLG, P3_D65, PQ, ColourSpace, colour_space, to_sdr
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import outcome_of

SDR = np.array([[40, 120, 200], [90, 90, 90], [200, 150, 120], [10, 20, 15], [180, 180, 180]], np.uint8)
# BT.709 to BT.2020 in linear light, ITU-R BT.2087
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def pq(light):
    """SMPTE ST 2084, from cd/m2 / 10000."""
    root = light**0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(light):
    """ARIB STD-B67, from display light of a 1000 cd/m2 display / 1000."""
    luma = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light * np.maximum(luma, 1e-9)[..., None] ** (1 / 1.2 - 1)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def encoded(space):
    """The SDR colours as a camera with that transfer function and BT.2020 would have stored them, uint16."""
    light = 203.0 * (SDR / 255.0) ** 2.4 @ TO_2020.T
    x = pq(light / 10_000) if space.transfer == PQ else hlg(light / 1000)
    return (x * 65535).round().astype(np.uint16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_of_sdr_colours_gives_them_back(transfer):
    space = ColourSpace(transfer, BT2020)
    found = to_sdr(encoded(space)[None], space)[0]
    assert np.abs(found.astype(int) - SDR).max() <= 2
    assert not space.is_sdr and "tone-mapped" in space.remark


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_rise_to_white(transfer):
    ramp = np.linspace(0, 65535, 500).astype(np.uint16)
    grey = to_sdr(np.repeat(ramp[None, :, None], 3, axis=2), ColourSpace(transfer, BT2020))[0]
    assert (np.diff(grey.astype(int), axis=0) >= 0).all() and grey[0].max() == 0 and grey[-1].min() >= 250
    assert np.ptp(grey.astype(int), axis=1).max() <= 1  # grey stays grey


@pytest.mark.parametrize("primaries", [BT2020, P3_D65])
def test_wide_gamut_keeps_grey_and_widens_colours(primaries):
    space = ColourSpace(1, primaries)
    rgb = np.array([[[100, 100, 100], [150, 100, 100]]], np.uint16) * 257
    grey, red = to_sdr(rgb, space)[0].astype(int)
    assert np.abs(grey - 100).max() <= 1 and red[0] > 152 and red[1] < 100
    assert "BT.709" in space.remark


def test_sdr_is_left_alone_and_what_cannot_be_converted_is_refused():
    for transfer, primaries in ((1, 1), (2, 2), (6, 6), (13, 5), (14, 1)):
        assert colour_space(transfer, primaries, 1).is_sdr
    assert colour_space(PQ, 2, 2).primaries == BT2020
    for transfer, primaries, matrix in ((9, 1, 1), (PQ, BT2020, 14), (17, 10, 0)):
        with pytest.raises(ClipError, match="re-encode"):
            colour_space(transfer, primaries, matrix)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_files(tmp_path, transfer):
    """Colour bars written as 10-bit HDR come back as the SDR bars, whole, smaller and in windows."""
    bars = np.repeat(np.repeat(encoded(ColourSpace(transfer, BT2020))[None], 16, 1), 64, 0)
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as out:
        names = {PQ: "smpte2084", HLG: "arib-std-b67"}
        tags = f"colorprim=bt2020:transfer={names[transfer]}:colormatrix=bt2020nc:range=tv"
        stream = out.add_stream("libx264", rate=25, options={"crf": "4", "x264-params": tags})
        stream.width, stream.height, stream.pix_fmt = bars.shape[1], bars.shape[0], "yuv420p10le"
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bars), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    reader = read_video(path)
    frame, _ = next(frames := reader.frames())
    middle = frame.rgb()[32, 8::16]
    assert np.abs(middle.astype(int) - SDR).max() <= 6
    np.testing.assert_array_equal(frame.part(8, 8, 40, 40), frame.rgb()[8:40, 8:40])
    small = frame.rgb(longest=40)[16, 4::8]
    assert np.abs(small.astype(int) - SDR).max() <= 25
    assert len(list(frames)) == 2 and "tone-mapped" in reader.remarks[0]


@pytest.mark.parametrize(("matrix", "number"), [("bt709", 1), ("smpte170m", 5), ("bt2020nc", 9)])
@pytest.mark.parametrize(("range_", "number_of_range"), [("off", 1), ("on", 2)])
def test_matrices_and_ranges(tmp_path, matrix, number, range_, number_of_range):
    rgb = np.full((64, 96, 3), (200, 90, 30), np.uint8)
    path = tmp_path / "m.mp4"
    with av.open(str(path), "w") as out:
        tags = f"colormatrix={matrix}:fullrange={range_}"
        stream = out.add_stream("libx264", rate=25, options={"crf": "5", "x264-params": tags})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        out.mux(
            stream.encode(
                frame.reformat(format="yuv420p", dst_colorspace=number, dst_color_range=number_of_range)
            )
        )
        out.mux(stream.encode())
    found, _ = next(iter(read_video(path)))
    assert np.abs(found.mean(axis=(0, 1)) - (200, 90, 30)).max() < 4


def tagged(path, codec, pixels, number):
    """Write one grey frame whose header names a matrix by its number in ITU-T H.273; return the path."""
    frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="rgb24")
    frame = frame.reformat(format=pixels)
    frame.colorspace = number
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        stream.codec_context.colorspace = number
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == number
    return path


@pytest.mark.parametrize("number", [8, 10, 12, 14])  # YCgCo, BT.2020 constant, derived from primaries, ICtCp
def test_a_matrix_that_cannot_be_converted_is_named(tmp_path, number):
    outcome = outcome_of(read_video, tagged(tmp_path / "m.mkv", "ffv1", "yuv444p", number))
    assert outcome.status is Status.UNREADABLE
    assert f"matrix {number}," in outcome.reason and "re-encode" in outcome.reason


@pytest.mark.parametrize("pixels", ["bgra", "gray"])
def test_a_matrix_does_not_count_where_no_colours_are_converted(tmp_path, pixels):
    (found,) = [rgb for rgb, _ in read_video(tagged(tmp_path / "m.mkv", "ffv1", pixels, 8))]
    assert np.abs(found.astype(int) - 90).max() <= 1
