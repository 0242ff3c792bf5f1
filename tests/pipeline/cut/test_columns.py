"""Columns of tables of segments, by the names that programs and corpora give them."""

import pytest

from deiii.pipeline.cut.columns import ColumnError, segment_columns
from deiii.pipeline.cut.segments import SegmentError, read_segments


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("path,StartTime,EndTime", {"begin": "StartTime", "end": "EndTime"}),
        ("file,starttime,endtime", {"begin": "starttime", "end": "endtime"}),
        ("file,t_start,t_end", {"begin": "t_start", "end": "t_end"}),
        ("file,Timestamp_start,Timestamp_end", {"begin": "Timestamp_start", "end": "Timestamp_end"}),
        ("file,segment_start,segment_end,offset", {"begin": "segment_start", "end": "offset"}),
        ("file,beg,end", {"begin": "beg", "end": "end"}),
        ("Datei,von,bis", {"begin": "von", "end": "bis"}),
        ("file,tmin,tier,text,tmax", {"begin": "tmin", "end": "tmax"}),
        ("audio_filepath,offset,duration", {"begin": "offset", "length": "duration"}),
        ("file,onset,offset,duration", {"begin": "onset", "end": "offset", "length": "duration"}),
        (
            "Begin File,End File,Begin Time (s),End Time (s),file",
            {"begin": "Begin Time (s)", "end": "End Time (s)"},
        ),
        ("file,moved_from,moved_to,start,end", {"begin": "start", "end": "end"}),
    ],
)
def test_times_are_found_by_their_names(header, expected):
    names = header.split(",")
    found = segment_columns(names)
    assert {
        role: names[n] for role, (n, _) in found.items() if role in ("begin", "end", "length")
    } == expected
    assert all(unit == 1.0 for _, unit in found.values())


@pytest.mark.parametrize(
    "header", ["file,clip_start_ms,clip_end_ms", "file,startms,endms", "file,msec_start,msec_end"]
)
def test_times_in_ms_are_found_by_their_names(header):
    found = segment_columns(header.split(","))
    assert found["begin"] == (1, 0.001) and found["end"] == (2, 0.001)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "file,word_start,utt_start,end",
            "word_start, utt_start could each be the begin; rename .* to begin",
        ),
        ("file,frame_start,frame_end", "'frame_start' has frame numbers"),
        ("file,moved_from,moved_to", "no column for the begin"),
        ("file,offset", "no column for the begin"),
        ("Begin File,Begin Path,end", "no column for the recording"),
    ],
)
def test_names_that_are_not_certain_are_refused(header, words):
    with pytest.raises(ColumnError, match=words):
        segment_columns(header.split(","))


@pytest.mark.parametrize(
    "rows", ["0.5\t1.5\thappy\n2\t3.25\tsad, or tired\n", "0,5\t1,5\thappy\n2\t3,25\tsad, or tired\n"]
)
def test_labels_of_audacity_need_no_header(tmp_path, rows):
    (tmp_path / "talk.wav").write_bytes(b"x")
    (tmp_path / "labels.txt").write_text(rows)
    found = read_segments(tmp_path / "labels.txt", recording="talk.wav")
    assert [(s.row, s.begin, s.end, s.cells["label"]) for s in found] == [
        (1, 0.5, 1.5, "happy"), (2, 2.0, 3.25, "sad, or tired"),
    ]  # fmt: skip
    with pytest.raises(SegmentError, match="no column for the recording .*--recording"):
        read_segments(tmp_path / "labels.txt")
