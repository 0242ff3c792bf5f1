"""6. Bad media: every file gets an outcome, none stops the run, none is replaced by zeros silently."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

from deiii.data.cache.index import read_index
from deiii.data.cache.shards import open_shard
from tests.faults.checks import check_done
from tests.faults.harness import faults
from tests.faults.processes import main_in
from tests.faults.workspace import Workspace
from tests.helpers.clipmaker import tone, write

media = faults("6 bad media")
OUTCOME = "a recorded outcome with a reason; the other clips are complete"
USABLE = {"ok", "ok_partial"}
ANY = USABLE | {"no_face", "no_audio", "no_video", "too_short", "unreadable", "not_media"}
REFUSED = {"not_media", "unreadable"}


class Folder:
    """Writes bad files into a corpus folder."""

    def __init__(self, root: Path, good: Path):
        self.root = root
        self.good = good.read_bytes()
        with av.open(str(good)) as container:
            self.frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]

    def write(self, name: str, frames=None, **more) -> None:
        path = self.root / name
        write(path, self.frames if frames is None else frames, **{"fps": 12, "audio": tone(0.8), **more})

    def cut(self, kind: str) -> None:
        """The same long clip in one container format, truncated at several places."""
        original = self.root / f"original.{kind}"
        self.write(original.name, self.frames * 8, audio=tone(6.6))
        content = original.read_bytes()
        for share in CUTS:
            (self.root / f"cut{share}.{kind}").write_bytes(content[: len(content) * share // 100])

    def raw(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)


CUTS = (10, 30, 50, 70, 90)


def _patched(data: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """An mp4 file in which the bytes ``at`` bytes after every occurrence of a box's name are replaced."""
    content, place = bytearray(data), 0
    while (place := content.find(box, place)) >= 0:
        content[place + 4 + at : place + 4 + at + len(value)] = value
        place += 4
    return bytes(content)


def _sound(
    path: Path, rate: int, layout: str = "mono", codec: str = "pcm_s16le", silent: bool = False
) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        channels = len(av.AudioLayout(layout).channels)
        wave = np.round(20000 * tone(0.8, rate=rate)).astype(np.int16) * (not silent)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, channels)[None], format="s16", layout=layout)
        frame.sample_rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _write_all(f: Folder) -> None:
    grey = np.full((96, 96, 3), 90, np.uint8)
    f.raw("good.mp4", f.good)
    f.raw("empty.mp4", b"")
    f.raw("one_byte.mp4", b"x")
    f.raw("zeros.mp4", bytes(5000))
    f.raw("noise.mp4", np.random.default_rng(0).bytes(30000))
    f.raw("lfs.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n")
    f.raw("page.mp4", b"<!DOCTYPE html><html><title>Sign in</title></html>")
    f.raw("text.mp4", b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n" * 40)
    f.raw("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    f.raw("concat.mp4", b"ffconcat version 1.0\nfile '/etc/passwd'\n")
    f.raw("zip.mp4", b"PK\x03\x04\x14\x00\x01\x00" + np.random.default_rng(1).bytes(4000))  # bit 0: encrypted
    (f.root / "folder.mp4").mkdir()
    cv2.imwrite(str(f.root / "picture.png"), grey)
    (f.root / "picture.png").rename(f.root / "picture.mp4")
    cv2.imwrite(str(f.root / "picture.jpg"), grey)
    f.write("no_sound.mp4", audio=None)
    f.write("no_video.m4a", [])
    f.write("silent.mp4", audio=np.zeros(12800))
    f.write("no_face.mp4", [grey] * 10)
    f.write("one_frame.mp4", f.frames[:1])
    f.write("1x1.mkv", [np.full((1, 1, 3), 90, np.uint8)] * 10, codec="ffv1")
    f.write("8k.mp4", [np.full((4320, 7680, 3), 90, np.uint8)] * 2, codec="mpeg4")
    steps = np.cumsum([0.04, 0.2, 0.05, 0.01, 0.11, 0.3, 0.02, 0.09, 0.08])
    f.write("vfr.mp4", times=[0.0, *steps], audio=tone(0.9))
    turned = b"".join(
        v.to_bytes(4, "big", signed=True) for v in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    f.raw("rotated.mp4", _patched(f.good, b"tkhd", 40, turned))
    for name, rate, layout in (("8ch", 48000, "7.1"), ("8khz", 8000, "mono"), ("192khz", 192000, "stereo")):
        _sound(f.root / f"{name}.wav", rate, layout)
    f.write("jump.mkv", times=[i / 12 if i < 5 else 900 + i / 12 for i in range(10)])
    f.write("back.ts", audio_codec="mp2", fps=25)
    twice = (f.root / "back.ts").read_bytes()
    f.raw("back.ts", twice + twice)
    f.write("late_sound.mp4", audio_at=0.5)
    f.write("negative.mkv", times=[(i - 5) / 12 for i in range(10)])
    f.write("sound_short.mp4", audio=tone(0.2))
    f.write("sound_long.mp4", audio=tone(4.0))
    f.write("blip.mp4", audio=tone(0.01))
    years = (0x7FFFFFFF).to_bytes(4, "big")
    f.raw("years.mp4", _patched(_patched(f.good, b"mdhd", 16, years), b"mvhd", 16, years))
    f.raw("huge_sample.mp4", _patched(f.good, b"stsz", 12, years * 3))
    f.raw("no_rate.mp4", _patched(f.good, b"mdhd", 12, bytes(4)))
    f.raw("tail.mp4", f.good + bytes(100_000))
    f.cut("mp4")
    f.cut("mkv")


# name: (description, outcomes allowed for faces, outcomes allowed for log-mel)
FILES: dict[str, tuple[str, set[str], set[str]]] = {
    "empty.mp4": ("an empty file", {"not_media"}, {"not_media"}),
    "one_byte.mp4": ("one byte", REFUSED, REFUSED),
    "zeros.mp4": ("zero bytes only", {"not_media"}, {"not_media"}),
    "noise.mp4": ("random bytes", REFUSED, REFUSED),
    "lfs.mp4": ("a Git LFS pointer", {"not_media"}, {"not_media"}),
    "page.mp4": ("an HTML page", {"not_media"}, {"not_media"}),
    "text.mp4": ("subtitles named .mp4", REFUSED | {"no_video"}, REFUSED | {"no_audio"}),
    "playlist.mp4": ("a playlist of other files and addresses", REFUSED, REFUSED),
    "concat.mp4": ("an ffconcat script naming /etc/passwd", REFUSED, REFUSED),
    "zip.mp4": ("an encrypted zip", {"not_media"}, {"not_media"}),
    "folder.mp4": ("a folder named .mp4", {"unreadable"}, {"unreadable"}),
    "picture.mp4": ("an image named .mp4", {"not_media"}, {"not_media"}),
    "picture.jpg": ("an image", {"not_media"}, {"not_media"}),
    "gone.mp4": ("a missing file", {"missing"}, {"missing"}),
    "no_sound.mp4": ("no audio", USABLE, {"no_audio"}),
    "no_video.m4a": ("no video", {"no_video"}, USABLE),
    "silent.mp4": ("silent audio", USABLE, {"no_audio"}),
    "no_face.mp4": ("no face", {"no_face"}, USABLE),
    "one_frame.mp4": ("one frame", ANY - {"unreadable"}, USABLE),
    "1x1.mkv": ("frames of 1x1", {"no_face", "too_short", "unreadable"}, USABLE),
    "8k.mp4": ("frames of 8K", {"no_face", "too_short"}, USABLE),
    "vfr.mp4": ("a variable frame rate", USABLE, USABLE),
    "rotated.mp4": ("rotated by 90 degrees", USABLE | {"no_face"}, USABLE),
    "8ch.wav": ("8 channels of 48 kHz", {"no_video"}, {"ok"}),
    "8khz.wav": ("8 kHz", {"no_video"}, {"ok"}),
    "192khz.wav": ("192 kHz", {"no_video"}, {"ok"}),
    "jump.mkv": ("timestamps that jump by 15 minutes", ANY, ANY),
    "back.ts": ("timestamps that jump back", USABLE, USABLE),
    "late_sound.mp4": ("audio that begins 0.5 s late", USABLE, USABLE),
    "negative.mkv": ("negative timestamps", USABLE, USABLE),
    "sound_short.mp4": ("audio shorter than the video", USABLE, USABLE),
    "sound_long.mp4": ("audio longer than the video", USABLE, USABLE),
    "blip.mp4": ("10 ms of audio", USABLE, USABLE | {"too_short"}),
    "years.mp4": ("a claimed duration of years", USABLE, USABLE),
    "huge_sample.mp4": ("a claimed sample of 2 GiB", ANY, ANY),
    "no_rate.mp4": ("a time scale of zero", ANY, ANY),
    "tail.mp4": ("100 kB of zeros after the end", USABLE, USABLE),
}
for _share in CUTS:
    FILES[f"cut{_share}.mp4"] = (f"mp4 truncated to {_share} %", {"unreadable"}, {"unreadable"})
    FILES[f"cut{_share}.mkv"] = (
        f"mkv truncated to {_share} %",
        {"ok_partial", "no_face", "unreadable", "no_video", "too_short"},
        {"ok_partial", "unreadable", "no_audio"},
    )


class Outcomes:
    """The outcomes of one run of `preprocess` on all of these files."""

    def __init__(self, work: Workspace, folder: Path):
        root, cache = folder / "raw", folder / "cache"
        root.mkdir()
        good = sorted(work.synthetic.rglob("*.mp4"))[0]
        _write_all(Folder(root, good))
        rows = [f"{name},s{n % 2},a" for n, name in enumerate(["good.mp4", *FILES])]
        (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
        words = [f"corpus.root={root}", f"cache={cache}", "corpus.name=table", "faces.size=32", "workers=2"]
        check_done(work.run("preprocess", *words, "max_failed=1", "corpus.clips_per_shard=8"))
        self.rows: dict[str, dict] = {}
        self.shards: dict[tuple[str, str], object] = {}
        stems = [Path(n).stem for n in FILES]
        self.ids = {n: n if stems.count(Path(n).stem) > 1 else Path(n).stem for n in ["good.mp4", *FILES]}
        for path in cache.glob("*/*-*/index.json"):
            index = read_index(path.parent)
            self.rows[index.stage] = index.clips
            for record in index.shards:
                shard = open_shard(path.parent / f"{record.name}.h5")
                self.shards |= {(index.stage, row.id): shard for row in record.clips}


def _outcomes(work: Workspace) -> Outcomes:
    return work.cached("media", lambda folder: Outcomes(work, folder))


def _check(found: Outcomes, name: str, faces: set[str], logmel: set[str]) -> str:
    clip = found.ids[name]
    seen = {}
    for stage, allowed in (("faces", faces), ("logmel", logmel)):
        row = found.rows[stage][clip]
        seen[stage] = row.status
        assert row.status in allowed, f"{stage}: {row.status} ({row.reason}), not {sorted(allowed)}"
        assert row.status == "ok" or len(row.reason) > 10, f"{stage}: {row.status} without a reason"
    flow = found.rows["flow"][clip].status
    usable = seen["faces"] in USABLE
    assert flow in USABLE | {"too_short"} if usable else flow == seen["faces"], f"flow: {flow}"
    for stage, row in ((s, r[clip]) for s, r in found.rows.items()):
        if row.status in USABLE:
            arrays = found.shards[stage, clip].clip(clip)
            main = arrays[{"faces": "frames", "flow": "flow", "logmel": "logmel"}[stage]]
            assert len(main), f"{stage}: no rows in a usable clip"
            assert stage == "flow" or np.ptp(main.astype(np.float32)) > 0, f"{stage}: all values are equal"
            assert np.all(np.diff(arrays["time"]) > 0), f"{stage}: times do not increase"
    return ", ".join(f"{stage} {status}" for stage, status in seen.items())


def _file(name: str, message: str, faces: set[str], logmel: set[str]) -> None:
    @media(message, OUTCOME, short=True)
    def inject(work: Workspace) -> str:
        return _check(_outcomes(work), name, faces, logmel)


for _name, _case in FILES.items():
    _file(_name, *_case)


@media(
    "all of them in one corpus",
    "the good clip is complete; above max_failed the exit status is not 0",
    short=True,
)
def together(work: Workspace) -> str:
    found = _outcomes(work)
    seen = _check(found, "good.mp4", {"ok"}, {"ok"})
    root = work.home / "media/raw"
    words = [f"corpus.root={root}", f"cache={root.parent / 'cache'}", "corpus.name=table", "faces.size=32"]
    done = main_in("preprocess", *words, "corpus.clips_per_shard=8")
    assert done.code == 1 and "max_failed" in done.text and "failures.csv" in done.text, done.text[-300:]
    return seen
