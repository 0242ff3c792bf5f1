"""16. Pictures: orientation, colours and pixel shapes of phones and editors come out as players show them."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.pipeline.media.video import read_video
from tests.faults.harness import faults
from tests.faults.workspace import Workspace
from tests.helpers.clipmaker import outcome_of, rotated, write

pictures = faults("16 pictures")
# a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y, with y down
MATRICES = {
    "as it is": (1, 0, 0, 1), "mirrored": (-1, 0, 0, 1), "upside down and mirrored": (1, 0, 0, -1),
    "turned by 180": (-1, 0, 0, -1), "transposed": (0, 1, 1, 0), "turned by 90": (0, 1, -1, 0),
    "turned by 270": (0, -1, 1, 0), "transposed and turned by 180": (0, -1, -1, 0),
}  # fmt: skip
COLOURS = np.array([[[200, 40, 40], [40, 180, 60]], [[50, 60, 200], [210, 210, 210]]], np.uint8)


def corners(size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A frame with four quarters of different colours, uint8 [H,W,3]."""
    rows = np.arange(size[0]) * 2 // size[0]
    columns = np.arange(size[1]) * 2 // size[1]
    return COLOURS[rows][:, columns]


def quarters(rgb: np.ndarray) -> np.ndarray:
    """The mean colours of the middles of a frame's quarters, [2,2,3]."""
    height, width = rgb.shape[:2]
    return np.array(
        [
            [
                rgb[
                    height * (2 * y + 1) // 4 - 3 : height * (2 * y + 1) // 4 + 3,
                    width * (2 * x + 1) // 4 - 3 : width * (2 * x + 1) // 4 + 3,
                ].mean(axis=(0, 1))
                for x in (0, 1)
            ]
            for y in (0, 1)
        ]
    )


def moved(image: np.ndarray, matrix: tuple[float, float, float, float]) -> np.ndarray:
    """Every pixel moved to where the matrix sends it."""
    a, b, c, d = (round(v) for v in matrix)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = a * xs + c * ys, b * xs + d * ys
    out = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1, 3), image.dtype)
    out[y - y.min(), x - x.min()] = image
    return out


def _with_matrix(work: Workspace, suffix: str, entries: tuple[float, ...], scale: float = 1.0) -> str:
    one = scale * (1 << 16)
    a, b, c, d = (round(v * one) for v in entries)
    path = write(work.folder() / f"a.{suffix}", [corners()] * 3)
    return rotated(path, [a, b, 0, c, d, 0, 0, 0, 1 << 30])


def _check(path: str | Path, expected: np.ndarray, tolerance: float = 25) -> list[str]:
    reader = read_video(path)
    frames = [rgb for rgb, _ in reader]
    assert {rgb.shape for rgb in frames} == {expected.shape}, f"{frames[0].shape}, not {expected.shape}"
    miss = np.abs(quarters(frames[0]) - quarters(expected)).max()
    assert miss < tolerance, f"colours of the quarters differ by {miss:.0f}: {quarters(frames[0]).round()}"
    return reader.remarks


@pictures("{case[0]}: display matrix, {case[1]}", "as ffmpeg shows it", short=[("mp4", "mirrored")],
          cases=list(product(("mp4", "mov"), MATRICES)))  # fmt: skip
def orientation(work: Workspace, case: tuple[str, str]) -> str:
    entries = MATRICES[case[1]]
    remarks = _check(_with_matrix(work, case[0], entries), moved(corners(), entries))
    assert not remarks, remarks
    return "no note"


@pictures("display matrix scaled by {case}", "a player's scale changes nothing", cases=(0.5, 2.0, 1.5))
def scaled(work: Workspace, case: float) -> str:
    _check(_with_matrix(work, "mp4", (0, 1, -1, 0), case), moved(corners(), (0, 1, -1, 0)))
    return "as without"


@pictures("display matrix of {case} degrees", "turned to the nearest multiple of 90, with a note",
          cases=(7, 44, 100, -95, 170, 200))  # fmt: skip
def odd_angles(work: Workspace, case: int) -> str:
    angle = np.radians(case)
    entries = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    near = np.radians(90 * round(case / 90))
    nearest = np.cos(near), np.sin(near), -np.sin(near), np.cos(near)
    remarks = _check(_with_matrix(work, "mp4", entries), moved(corners(), nearest))
    assert len(remarks) == 1 and "nearest multiple of 90" in remarks[0], remarks
    return remarks[0]


@pictures("a display matrix of {case}", "read as if there were none", cases=("zeros", "huge numbers"))
def broken_matrix(work: Workspace, case: str) -> str:
    path = write(work.folder() / "a.mp4", [corners()] * 3)
    value = 0 if case == "zeros" else (1 << 31) - 1
    rotated(path, [value, 0, 0, 0, value, 0, 0, 0, 1 << 30])
    _check(path, corners())
    return "no change"


RATIOS = ("40/41", "512/513", "99/65", "16/15", "64/45", "12/11", "40/33", "10/11", "3/4", "2/1")


@pictures("pixels of {case}", "shown with square pixels, also odd widths", cases=RATIOS, short={"512/513"})
def pixels(work: Workspace, case: str) -> str:
    path = write(work.folder() / "a.mp4", [corners()] * 3, sar=case)
    width = round(96 * float(Fraction(case)))
    _check(path, corners((64, width)))
    small = [rgb for rgb, _ in read_video(path, 40)]
    assert max(small[0].shape) == 40, small[0].shape
    return f"{width}x64"


@pictures(
    "pixels of {case}, turned by 90 degrees", "square pixels, upright", cases=("16/15", "512/513", "3/4")
)
def turned_pixels(work: Workspace, case: str) -> str:
    path = write(work.folder() / "a.mp4", [corners()] * 3, sar=case)
    rotated(path, [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30])
    width = round(96 * float(Fraction(case)))
    _check(path, moved(corners((64, width)), (0, 1, -1, 0)))
    return f"64x{width}"


@pictures(
    "stored frames of {case[0]}x{case[1]}", "the same size comes out", cases=((63, 47), (33, 2), (97, 65))
)
def odd_sizes(work: Workspace, case: tuple[int, int]) -> str:
    width, height = case
    path = write(work.folder() / "a.mkv", [corners((height, width))] * 3, codec="ffv1", pixels="yuv444p")
    shapes = {rgb.shape for rgb, _ in read_video(path)}
    assert shapes == {(height, width, 3)}, shapes
    return f"{width}x{height}"


# Names of x264 for transfer function, primaries and matrix, and what is expected: a word of the note, "" for
# none, or "refused".
TAGS = {
    "BT.709": ("bt709", "bt709", "bt709", ""), "BT.601": ("smpte170m", "smpte170m", "smpte170m", ""),
    "sRGB": ("iec61966-2-1", "bt709", "bt709", ""), "PAL": ("bt470bg", "bt470bg", "bt470bg", ""),
    "BT.2020 in 10 bits": ("bt2020-10", "bt2020", "bt2020nc", "BT.2020"),
    "P3 D65": ("bt709", "smpte432", "bt709", "P3"), "P3 DCI": ("bt709", "smpte431", "bt709", "P3"),
    "PQ": ("smpte2084", "bt2020", "bt2020nc", "PQ"), "HLG": ("arib-std-b67", "bt2020", "bt2020nc", "HLG"),
    "PQ without primaries": ("smpte2084", "undef", "bt2020nc", "PQ"),
    "HLG in BT.709": ("arib-std-b67", "bt709", "bt709", "HLG"),
    "linear light": ("linear", "bt709", "bt709", "linear"),
    "logarithmic": ("log100", "bt709", "bt709", "refused"),
    "XYZ": ("smpte428", "smpte428", "bt709", "refused"),
    "ICtCp": ("smpte2084", "bt2020", "ICtCp", "refused"),
}  # fmt: skip


@pictures("colours tagged as {case}", "SDR as it is; HDR, wide gamut: converted, noted; others refused",
          cases=TAGS, short={"HLG", "ICtCp"})  # fmt: skip
def colours(work: Workspace, case: str) -> str:
    transfer, primaries, matrix, word = TAGS[case]
    path = work.folder() / "a.mp4"
    tags = f"colorprim={primaries}:transfer={transfer}:colormatrix={matrix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "6", "x264-params": tags})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        number = {"bt709": 1, "bt2020nc": 9, "ICtCp": 9}.get(matrix, 5)
        for n in range(3):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=number, dst_color_range=1)
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    if word == "refused":
        outcome = outcome_of(read_video, path)
        assert outcome.status is Status.UNREADABLE and "re-encode" in outcome.reason, outcome
        return outcome.reason[:90]
    reader = read_video(path)
    first = quarters(next(iter(reader))[0])
    list(reader)
    if word:
        assert any(word in remark for remark in reader.remarks), reader.remarks
        grey = first[1, 1]
        assert np.ptp(grey) < 8, f"grey became {grey}"
    else:
        assert not reader.remarks and np.abs(first - quarters(corners())).max() < 12, (first, reader.remarks)
    return "; ".join(reader.remarks)[:90]
