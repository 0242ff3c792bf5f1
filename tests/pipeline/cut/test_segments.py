"""Tables of segments: their columns, times and defects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.cut.segments import SegmentError, read_segments, seconds

ELAN = (  # columns of ELAN's export as tab-delimited text, with column names
    "Tier\tBegin Time - hh:mm:ss.ms\tBegin Time - ss.msec\tBegin Time - msec\tEnd Time - hh:mm:ss.ms\t"
    "End Time - ss.msec\tEnd Time - msec\tEmotion\n"
    "anna\t00:01:02.500\t62.5\t62500\t00:01:04.000\t64.0\t64000\thappy\n"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "anna").mkdir()
    for name in ("talk.mp4", "anna/long.wav"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder, text, encoding="utf-8", **more):
    table = folder / "segments.csv"
    table.write_bytes(text.encode(encoding))
    return read_segments(table, **more)


@given(st.integers(0, 10**8))
def test_all_forms_of_a_time_mean_the_same(ms):
    hours, minutes, rest = ms // 3_600_000, ms // 60_000 % 60, ms % 60_000 / 1000
    plain = f"{ms / 1000:.3f}"
    for text, unit in (
        (plain, 1.0),
        (plain.replace(".", ","), 1.0),
        (str(ms), 0.001),
        (f"{hours}:{minutes:02}:{rest:06.3f}", 1.0),
        (f"{hours:02}:{minutes:02}:{rest:06.3f}".replace(".", ","), 1.0),
    ):
        assert seconds(text, unit) == pytest.approx(ms / 1000, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "nan", "inf", "1:2:3:4", "1,234.5,6", "1e306", f"{10**400}:0:1"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=".*"):
        seconds(text)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path,start,end,speaker,label", "talk.mp4,12.5,15.0,anna,happy"),
        ("file;onset;offset;Sprecher;Emotion", "talk;12,5;15,0;anna;happy"),
        ("recording\tbegin_ms\tend_ms\tactor\temo", "talk.mp4\t12500\t15000\tanna\thappy"),
        ("label,speaker,duration,start_time,video", "happy,anna,2.5,0:12.5,talk.mp4"),
        ("name,Begin (s),Ende,subject_id,class", "C:\\data\\talk.mp4,12.5,00:00:15,anna,happy"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_other_programs_are_read(folder, header, row, encoding):
    (found,) = read(folder, f"{header}\n{row}\n", encoding)
    assert (found.recording, found.begin, found.end) == ("talk.mp4", 12.5, 15.0)
    assert dict(found.cells) == {"speaker": "anna", "label": "happy"}
    assert found.name == "talk_0012500-0015000"
    assert found.row == 2


def test_the_columns_of_elan_are_read_for_one_recording(folder):
    (found,) = read(folder, ELAN, recording="anna/long.wav")
    assert (found.recording, found.begin, found.end) == ("anna/long.wav", 62.5, 64.0)
    assert dict(found.cells) == {"label": "happy"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,start,end\n", "no rows"),
        ("path,label\ntalk.mp4,happy\n", "no column for the begin (start) and the end"),
        ("start,end\n1,2\n", "--recording FILE"),
        ("path,start_frame,end_frame\ntalk.mp4,1,2\n", "'start_frame' has frame numbers"),
        ("path,start_min,end_min\ntalk.mp4,1,2\n", "'start_min' has the unit 'min'"),
        ("path,start,end\n.,1,2\n", "row 2: '.' is not the name of a file"),
        ("path,start,end\ntalk.mp4,1,soon\n", "row 2: 'soon' is no time"),
        ("path,start,end\ntalk.mp4,1,\n", "row 2 has no end"),
        ("path,start,end\n,1,2\n", "row 2 has no recording"),
        ("path,start,end\ntalk.mp4,3,2\n", "row 2: the segment from 3 to 2 s is shorter"),
        ("path,start,end\n../talk.mp4,1,2\n", None),
        ("path,start,end\n../other.mp4,1,2\n", "not below the folder of the recordings"),
        ("path,start,end\ntalk.mp4,1,2\ntalk.mp4,1.0,2.0\n", "rows 2 and 3 are the same part"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_row(folder, text, words):
    if words is None:  # the name alone is enough
        assert read(folder, text)[0].recording == "talk.mp4"
        return
    with pytest.raises(SegmentError) as caught:
        read(folder, text)
    assert str(folder / "segments.csv") in str(caught.value)
    assert words in str(caught.value)


def test_a_name_that_two_recordings_have_is_refused(folder):
    (folder / "anna/talk.mp4").write_bytes(b"x")
    with pytest.raises(SegmentError, match="row 2: .*write the folders"):
        read(folder, "path,start,end\ntalk,1,2\n")


def test_a_recording_that_is_not_there_stays_in_the_list(folder):
    (found,) = read(folder, "path,start,end\ngone.mp4,1,2\n")
    assert found.recording == "gone.mp4"


def test_two_recordings_whose_clips_would_have_one_name_are_named(folder):
    (folder / "talk.wav").write_bytes(b"x")
    with pytest.raises(SegmentError, match=r"rows 2 and 3 \(talk\.mp4, talk\.wav\): their clips"):
        read(folder, "path,start,end\ntalk.mp4,1,2\ntalk.wav,1,2\n")


def test_a_recording_that_is_not_there_is_not_replaced_by_that_of_another_folder(folder):
    with pytest.raises(SegmentError, match=r"row 3: ben/long\.wav|row 3: anna/long\.wav and ben/long\.wav"):
        read(folder, "path,start,end\nanna/long.wav,1,2\nben/long.wav,3,4\n")
    found = read(folder, "path,start,end\n/other/anna/long.wav,1,2\nanna/long.wav,3,4\nlong,5,6\n")
    assert {segment.recording for segment in found} == {"anna/long.wav"}


def test_columns_with_frame_numbers_are_passed_over_beside_those_with_seconds(folder):
    (found,) = read(folder, "path,start_frame,end_frame,start_s,end_s\ntalk.mp4,25,50,1,2\n")
    assert (found.begin, found.end) == (1.0, 2.0)


def test_a_column_with_minutes_and_seconds_is_read(folder):
    (found,) = read(folder, "path,Begin (min:sec),End (min:sec)\ntalk.mp4,1:02.5,1:04\n")
    assert (found.begin, found.end) == (62.5, 64.0)


def test_an_export_of_several_elan_files_names_the_annotation_files(folder):
    text = "Tier\tBegin Time - ss.msec\tEnd Time - ss.msec\tAnnotation\tFile Path\n"
    (found,) = read(folder, f"{text}Emotion\t1.0\t2.0\thappy\tfile:///C:/study/Talk.eaf\n")
    assert (found.recording, dict(found.cells)) == ("talk.mp4", {"label": "happy"})


def test_a_recording_that_is_a_link_may_be_the_recording_of_all_rows(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("disk") / "film.mp4"
    other.write_bytes(b"x")
    (folder / "link.mp4").symlink_to(other)
    (found,) = read(folder, "start,end\n1,2\n", recording="link.mp4")
    assert found.recording == "link.mp4"


def test_clips_of_a_recording_with_a_long_name_have_shorter_names(folder):
    name = "ü" * 120
    (folder / f"{name}.mp4").write_bytes(b"x")
    (found,) = read(folder, f"path,start,end\n{name}.mp4,1,2\n")
    assert found.name == f"{'ü' * 80}_0001000-0002000"


def test_values_with_a_decimal_comma_get_a_point(folder):
    """The table of the clips had the comma, and `deiii preprocess` refused it."""
    text = "path;start;end;label;valence;arousal\ntalk;0,5;1,5;a,b;-0,25;\ntalk;2;3;1,5;3;1,75\n"
    first, second = read(folder, text)
    assert (first.begin, first.end) == (0.5, 1.5)
    assert dict(first.cells) == {"label": "a,b", "valence": "-0.25", "arousal": ""}
    assert dict(second.cells) == {"label": "1,5", "valence": "3", "arousal": "1.75"}


def test_what_is_not_used_or_uncertain_is_logged(folder, caplog):
    assert read(folder, "video,start,end,label,sentiment,ASR\ntalk,0,1,a,2,0\n")
    (record,) = caplog.records
    assert record.getMessage() == f"{folder / 'segments.csv'}: columns not used: sentiment, ASR"
    caplog.clear()
    assert read(folder, "video,start,end,label\ntalk,0,1,Öfke\n", "cp1254")[0].cells["label"] == "Öfke"
    (record,) = caplog.records
    assert "is not UTF-8 and was read as Windows-1252; check letters" in record.getMessage()
    caplog.clear()
    for text in ("video,start,end,label\ntalk,0,1,Öfke\n", "0.5\t1.5\thappy\n"):
        assert read(folder, text, **({} if "video" in text else {"recording": "talk.mp4"}))
    assert read(folder, ELAN, recording="talk.mp4")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["columns not used: Tier"]
