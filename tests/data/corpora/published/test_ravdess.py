"""RAVDESS: published layouts, what each part of a name means, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.published.ravdess import CLASSES, parse_name
from deiii.data.corpora.scan import scan
from tests.helpers.layouts import decodes, media_bytes, place


def config(root: Path, **more) -> CorpusConfig:
    return CorpusConfig(name="ravdess", root=str(root), **more)


@pytest.mark.parametrize("folder", ["", "Actor_12/", "Video_Speech_Actor_12/Actor_12/"])
@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".avi"])
def test_layouts(tmp_path, folder, suffix):
    path = f"{folder}01-01-06-01-02-01-12{suffix}"
    assert decodes(place(tmp_path, path)) != (0, 0)
    place(tmp_path, "01-01-01-01-01-01-02.mp4")
    clip = scan(config(tmp_path)).clips[1]
    assert clip.id == "01-01-06-01-02-01-12"
    assert clip.path == path
    assert (clip.speaker, clip.label) == ("actor-12", "fearful")


def test_every_emotion_code_has_the_published_name(tmp_path):
    names = "neutral calm happy sad angry fearful disgust surprised".split()
    for code in range(1, 9):
        place(tmp_path, f"01-01-0{code}-01-01-01-01.mp4")
    corpus = scan(config(tmp_path))
    assert corpus.classes == CLASSES == tuple(names)
    assert [c.label for c in corpus.clips] == names


def test_modality_and_channel_pick(tmp_path):
    for name in ("01-01-03-01-01-01-01.mp4", "02-01-03-01-01-01-01.mp4", "03-01-03-01-01-01-01.wav"):
        place(tmp_path, name)
    place(tmp_path, "01-02-03-01-01-01-01.mp4")
    place(tmp_path, "01-01-03-01-01-01-01.wav")  # extracted by somebody: not the published file

    def picked(**more):
        return [c.path for c in scan(config(tmp_path, **more)).clips]

    assert picked() == ["01-01-03-01-01-01-01.mp4"]
    assert picked(modality="video-only") == ["02-01-03-01-01-01-01.mp4"]
    assert picked(modality="audio-only") == ["03-01-03-01-01-01-01.wav"]
    assert picked(channel="song") == ["01-02-03-01-01-01-01.mp4"]
    assert len(picked(channel="both")) == 2


def test_classes_are_eight_even_where_few_occur(tmp_path):
    place(tmp_path, "01-02-05-01-01-01-01.mp4")
    corpus = scan(config(tmp_path, channel="song"))
    assert len(corpus.classes) == 8
    assert corpus.protocol == "ravdess-6fold"


@pytest.mark.parametrize(
    "name",
    [
        "01-01-09-01-01-01-01",  # emotion
        "04-01-01-01-01-01-01",  # modality
        "01-01-01-01-01-01-25",  # actor
        "01-01-01-01-01-01-00",
        "01-01-01-01-01-01",  # six fields
        "1-1-1-1-1-1-1",
        "01-01-01-01-01-01-٠١",  # digits, but not these
    ],
)
def test_bad_names(name):
    assert parse_name(name + ".mp4") is None


def test_bad_fields_among_good_ones_are_reported(tmp_path, caplog):
    place(tmp_path, "01-01-03-01-01-01-01.mp4")
    place(tmp_path, "01-01-09-01-01-01-01.mp4")
    place(tmp_path, "._01-01-04-01-01-01-01.mp4")
    assert len(scan(config(tmp_path)).clips) == 1
    assert "01-01-09-01-01-01-01.mp4" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no media files at all"),
        (["holiday.mp4"], "found holiday.mp4"),
        (["01-01-09-01-01-01-01.mp4"], "out of range: 01-01-09"),
        (["03-01-01-01-01-01-01.wav"], "corpus.modality=audio-only corpus.channel=speech"),
        (["a/01-01-01-01-01-01-01.mp4", "b/01-01-01-01-01-01-01.mp4"], "there twice"),
        (["Actor_02/01-01-01-01-01-01-01.mp4"], "folder of another"),
    ],
)
def test_refusals(tmp_path, files, message):
    for file in files:
        place(tmp_path, file)
    with pytest.raises(CorpusError, match=message):
        scan(config(tmp_path))


def test_no_folder(tmp_path):
    with pytest.raises(CorpusError, match=r"Actor_12/01-01-06-01-02-01-12\.mp4.*nothing"):
        scan(config(tmp_path / "absent"))


def test_links_between_folders_do_not_hang(tmp_path):
    place(tmp_path, "Actor_01/01-01-01-01-01-01-01.mp4")
    (tmp_path / "Actor_01" / "loop").symlink_to(tmp_path)
    assert len(scan(config(tmp_path)).clips) == 1


def test_scan_reads_no_media(tmp_path):
    (tmp_path / "01-01-01-01-01-01-01.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    assert len(scan(config(tmp_path)).clips) == 1
    assert media_bytes(".flac")[:4] == b"fLaC"


def test_the_published_speech_recordings(test_data):
    corpus = scan(config(test_data / "media" / "ravdess_speech_16k", modality="audio-only"))
    assert len(corpus.clips) == 1440
    assert len(corpus.speakers) == 24
    # 60 a speaker: 4 neutral, 8 of each other emotion
    counts = Counter((c.speaker, c.label) for c in corpus.clips)
    assert set(counts.values()) == {4, 8}
    assert all((n == 4) == (label == "neutral") for (_, label), n in counts.items())


def test_recordings_that_are_no_clips_are_named(tmp_path, caplog):
    place(tmp_path, "01-01-03-01-01-01-01.mp4")
    for name in ("01-01-03-01-01-01-01 (1).mp4", "01-01-03-01-01-02-01_copy.mp4", "01-01-04-01-01-01-01.wav"):
        place(tmp_path, name)
    assert len(scan(config(tmp_path)).clips) == 1
    assert "2 files left out, with names unlike 01-01-06-01-02-01-12.mp4: " in caplog.text
    assert (
        "1 file left out, in other formats than those of audio-video: 01-01-04-01-01-01-01.wav" in caplog.text
    )
