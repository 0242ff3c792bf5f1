"""Decoding on a GPU: which videos, refusals, the way back to the processor, and the format of frames.

No test has a GPU: its frames are made from those of the processor.
"""

from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest

from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import load_config
from deiii.data.config.schema import FacesConfig, SyntheticConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.faces.detectors import load_detector
from deiii.pipeline.faces.stage import extract_faces
from deiii.pipeline.media import container
from deiii.pipeline.media import video as reading
from deiii.pipeline.media.decoders import nvdec
from deiii.pipeline.media.decoders.nvdec import GpuDecodingFailed, as_decoded
from deiii.pipeline.media.video import read_video
from deiii.pipeline.preprocess.cluster_kinds import local_workers
from deiii.pipeline.preprocess.needed_weights import fetch_needed
from tests.helpers.clipmaker import numbered, write


@pytest.fixture(scope="module")
def face_clip(tmp_path_factory):
    frames = render_frames(plan_clip(SyntheticConfig(seconds=0.8), 0))
    return write(tmp_path_factory.mktemp("nvdec") / "a.mp4", frames)


@pytest.fixture
def works(monkeypatch):
    monkeypatch.setattr(nvdec, "problem", lambda: "")


def stream(codec="h264", form="yuv420p", width=1280, height=720):
    return SimpleNamespace(
        codec_context=SimpleNamespace(name=codec, pix_fmt=form), width=width, height=height
    )


def interleaved(frame):
    """A frame as a GPU returns it: NV12."""
    planes = [np.asarray(memoryview(p)).reshape(-1, p.line_size)[: p.height, : p.width] for p in frame.planes]
    joined = np.stack(planes[1:], axis=-1).reshape(planes[1].shape[0], -1)
    made = av.VideoFrame.from_ndarray(np.concatenate([planes[0], joined]), format="nv12")
    made.pts, made.time_base, made.duration = frame.pts, frame.time_base, frame.duration
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    made.color_trc, made.color_primaries = frame.color_trc, frame.color_primaries
    return made


def decoded(path):
    with av.open(path) as opened:
        yield from opened.decode(video=0)


@pytest.mark.parametrize(
    ("seen", "auto", "gpu"),
    [
        (stream(), True, True),
        (stream("hevc", width=3840, height=2160), True, True),
        (stream(width=720, height=1280), True, True),
        (stream(width=1280, height=718), False, True),
        (stream("vp9"), False, False),
        (stream(form="yuv420p10le"), False, False),
        (stream(form="yuvj420p"), False, False),
        (stream(form=None), False, False),
    ],
)
def test_large_videos_in_h264_and_h265_suit(works, seen, auto, gpu):
    assert nvdec.suits(seen, "auto") is auto and nvdec.suits(seen, "gpu") is gpu
    assert nvdec.suits(seen, "cpu") is False


def test_nothing_suits_where_no_gpu_works(monkeypatch):
    monkeypatch.setattr(nvdec, "problem", lambda: "there is none")
    assert nvdec.suits(stream(), "auto") is False


def test_frames_keep_every_px_and_their_time(tmp_path):
    pattern = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    path = write(tmp_path / "a.mp4", list(pattern))
    pairs = zip(decoded(path), as_decoded(map(interleaved, decoded(path)), (64, 48)), strict=True)
    for right, found in pairs:
        assert found.format.name == "yuv420p"
        assert np.array_equal(found.to_ndarray(), right.to_ndarray())
        assert np.array_equal(found.to_ndarray(format="rgb24"), right.to_ndarray(format="rgb24"))
        for name in ("time", "duration", "colorspace", "color_range", "color_trc", "color_primaries"):
            assert getattr(found, name) == getattr(right, name), name


def test_frames_of_other_kinds_are_left_to_the_processor(tmp_path):
    path = write(tmp_path / "a.mp4", numbered(1))
    frame = interleaved(next(decoded(path)))
    with pytest.raises(GpuDecodingFailed, match="64x48"):
        next(as_decoded(iter([frame]), (64, 46)))
    with pytest.raises(GpuDecodingFailed, match="yuv420p"):
        next(as_decoded(decoded(path), (64, 48)))
    frame.color_range = nvdec.FULL_RANGE
    with pytest.raises(GpuDecodingFailed, match="full range"):
        next(as_decoded(iter([frame]), (64, 48)))


def on_a_gpu(monkeypatch, change=interleaved):
    """Videos are decoded by the processor, and ``change`` makes of each frame what a GPU would return."""
    read = container.decode
    monkeypatch.setattr(nvdec, "suits", lambda stream, decoder: decoder != "cpu")
    monkeypatch.setattr(nvdec, "_accelerator", lambda: None)
    monkeypatch.setattr(reading.media, "decode", lambda *inputs: map(change, read(*inputs)))


def same_arrays(found, right):
    pairs = ((found.arrays[name], array) for name, array in right.arrays.items())
    return all(np.array_equal(a, b, equal_nan=b.dtype.kind == "f") for a, b in pairs)


@pytest.mark.parametrize("kept", [True, False])
def test_faces_are_those_of_the_processor(face_clip, monkeypatch, kept):
    """Also where a clip is too large for its frames to be kept, and is decoded twice."""
    if not kept:
        monkeypatch.setattr("deiii.pipeline.faces.stage.KEEP_BYTES", 0)
    config = FacesConfig()
    detector = load_detector(config)
    right = extract_faces(face_clip, config, detector)
    changed = []
    on_a_gpu(monkeypatch, lambda frame: changed.append(1) or interleaved(frame))
    found = extract_faces(face_clip, replace(config, decoder="auto"), detector)
    assert len(changed) == len(right.arrays["time"]) * (1 if kept else 2)
    assert found.outcome == right.outcome and same_arrays(found, right)


@pytest.mark.skipif(nvdec.problem() == "", reason="needs a machine without a GPU")
def test_what_the_gpu_does_not_open_is_decoded_by_the_processor_with_a_note(face_clip, monkeypatch):
    config = FacesConfig()
    detector = load_detector(config)
    right = extract_faces(face_clip, config, detector)
    monkeypatch.setattr(nvdec, "suits", lambda stream, decoder: decoder != "cpu")
    found = extract_faces(face_clip, replace(config, decoder="auto"), detector)
    assert same_arrays(found, right) and found.outcome.status is right.outcome.status
    assert "the processor decoded the video, because the GPU failed (" in found.outcome.reason


def test_damage_is_concealed_by_the_processor(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", numbered(12))
    frames = len(list(read_video(path)))
    on_a_gpu(monkeypatch)
    intact = reading.media.decode

    def decode(opened, stream, notes, packets=None):
        yield from intact(opened, stream, notes, packets)
        notes.append("1 packets of the video stream cannot be decoded (damage)")

    monkeypatch.setattr(reading.media, "decode", decode)
    reader = read_video(path, decoder="auto")
    seen = []
    with pytest.raises(GpuDecodingFailed, match="damage"):
        seen.extend(reader)
    assert len(seen) == frames  # the reader cannot know earlier


@pytest.mark.skipif(nvdec.problem() == "", reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused_where_it_is_asked_for():
    with pytest.raises(ConfigError, match=r"faces.decoder=gpu: .*; use faces.decoder=auto or cpu"):
        load_detector(FacesConfig(decoder="gpu"))
    load_detector(FacesConfig(decoder="auto"))


@pytest.mark.parametrize(
    ("word", "why"),
    [("gpus=0", "gpus=0 hides"), ("cluster.kind=slurm", "clusters"), ("scheduler=tcp://a:1", "clusters")],
)
def test_workers_that_see_no_gpu_are_refused_before_work(works, word, why):
    config = load_config(overrides=["faces.decoder=gpu", word])
    with pytest.raises(ConfigError, match=why):
        fetch_needed(config, ["faces"], print)
    fetch_needed(load_config(overrides=["faces.decoder=auto", word]), ["faces"], print)


def test_an_old_pyav_is_a_problem(monkeypatch):
    nvdec.problem.cache_clear()
    monkeypatch.setattr(av, "__version__", "17.0.0")
    try:
        assert "it needs 18 or later" in nvdec.problem()
    finally:
        nvdec.problem.cache_clear()


def test_the_run_says_what_decodes(works):
    assert nvdec.note(load_config()) == ""
    assert "1280x720" in nvdec.note(load_config(overrides=["faces.decoder=auto"]))
    assert "gpus=0" in nvdec.note(load_config(overrides=["faces.decoder=auto", "gpus=0"]))


def test_a_run_that_will_be_refused_does_not_say_that_the_processor_decodes(monkeypatch):
    monkeypatch.setattr(nvdec, "problem", lambda: "no GPU works")
    assert "the processor decodes all videos" in nvdec.note(load_config(overrides=["faces.decoder=auto"]))
    assert nvdec.note(load_config(overrides=["faces.decoder=gpu"])) == ""
    assert nvdec.note(load_config(overrides=["faces.decoder=gpu", "gpus=0"])) == ""


def test_the_decoder_does_not_change_the_key():
    keys = [stage_keys(load_config(overrides=[f"faces.decoder={name}"])) for name in ("cpu", "auto", "gpu")]
    assert keys[0] == keys[1] == keys[2]


def test_workers_share_the_gpus_on_which_they_decode():
    def visible(**more):
        specs = local_workers(3, 2, "4,5", **more)
        return [specs[f"cpu-{n}"]["options"]["env"]["CUDA_VISIBLE_DEVICES"] for n in range(3)]

    assert visible() == ["", "", ""]
    assert visible(decoding=True) == ["4", "5", "4"]
