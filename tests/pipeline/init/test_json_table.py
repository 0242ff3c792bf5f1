"""Tables in JSON are read; tables of other kinds are named with what to do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.pipeline.init.found import InitError
from deiii.pipeline.init.json_table import NotJson, read_records
from deiii.pipeline.init.look import look
from tests.pipeline.init.test_folders import touch

NAMES = [f"audio/rec_{number:03d}.wav" for number in range(6)]
RECORDS = [
    {"audio_filepath": name, "speaker": f"s{n // 2}", "emotion": ("happy", "sad")[n % 2], "valence": n / 10,
     "words": ["a", n], "take": None}
    for n, name in enumerate(NAMES)
]  # fmt: skip
LINES = "\n".join(json.dumps(record) for record in RECORDS)
MEANT = [(name, f"s{n // 2}", ("happy", "sad")[n % 2], n / 10) for n, name in enumerate(NAMES)]


@pytest.fixture
def root(tmp_path):
    return touch(tmp_path / "clips", *NAMES).resolve()


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.ndjson", "labels.json"])
def test_records_are_read(root, name, tmp_path, monkeypatch, capsys):
    """Nothing was said about such a file."""
    text = json.dumps(RECORDS, indent=1) if name.endswith(".json") else f"\n{LINES}\n\n"
    (root / name).write_text(text, encoding="utf-8-sig" if name.endswith(".ndjson") else "utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 0
    assert f"{name}: path from 'audio_filepath', label from 'emotion'" in capsys.readouterr().out
    clips = scan(load_config("clips.yaml").corpus).clips
    assert [(c.path, c.speaker, c.label, c.attributes["valence"]) for c in clips] == MEANT
    assert look(root, table=name).rows == look(root, table=str(root / name)).rows


def test_columns_that_are_not_used_and_wrong_rows_are_named(root):
    (root / "labels.jsonl").write_text(LINES)
    assert "columns not used: words, take" in look(root).notes
    again = json.dumps({**RECORDS[2], "speaker": "other"})
    (root / "labels.jsonl").write_text(f"{LINES}\n{again}\n")
    with pytest.raises(InitError, match=r"row 7 names audio/rec_002\.wav again"):
        look(root)


def test_damaged_json_is_named_with_its_line(root):
    (root / "labels.jsonl").write_text(f"{LINES}\n{{oops\n")
    with pytest.raises(InitError, match=r"labels\.jsonl: line 7 is not JSON .*export it as CSV"):
        look(root)
    touch(root, "anna/happy/1.wav", "ben/sad/2.wav", "carl/sad/3.wav")
    for name in NAMES:
        (root / name).unlink()
    assert any("labels.jsonl: line 7 is not JSON" in note for note in look(root).notes)


@pytest.mark.parametrize("text", ["[1, 2]", '["a.wav"]', '[{"path": "a.wav"}]', '"x"', "[]"])
def test_other_json_is_no_table(text):
    with pytest.raises(InitError, match="a list of flat records, or one record in each line"):
        read_records(text)


@pytest.mark.parametrize("text", ["{", "[{]", "[" * 100_000, "nonsense"])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(NotJson, match="is not JSON .*export it as CSV"):
        read_records(text)


def test_a_json_object_and_files_of_other_kinds_are_named(root):
    (root / "labels.json").write_text(json.dumps({"data": RECORDS}))
    (root / "settings.json").write_text("{}")
    with pytest.raises(
        InitError, match=r"the file .*labels\.json is not read, because it is no list"
    ) as found:
        look(root)
    assert "settings.json" not in str(found.value)
    (root / "labels.json").unlink()
    for name, words in {
        "labels.parquet": "deiii does not read the format .parquet; export it as CSV",
        "labels.ods": "is not read; save it as CSV",
    }.items():
        (root / name).write_bytes(b"PAR1")
        with pytest.raises(InitError, match=words):
            look(root)
        with pytest.raises(InitError, match=words):
            look(root, table=name)
        (root / name).unlink()
    (root / "labels.jsonl").write_text(LINES)
    (root / "labels.parquet").write_bytes(b"PAR1")
    assert not any("parquet" in note for note in look(root).notes)


def test_results_of_predictions_are_no_labels(root):
    (root / "live.jsonl").write_text(json.dumps({"time_s": 1.0, "label": "sad"}) + "\n")
    for name in NAMES:
        (root / name).with_suffix(".json").write_text(
            json.dumps({"format": "deiii-prediction-1", "file": name})
        )
    (root / "labels.tsv").write_text(
        "file\tspeaker\temotion\n" + "".join(f"{p}\t{s}\t{e}\n" for p, s, e, _ in MEANT)
    )
    found = look(root)
    assert [(row.path, row.speaker, row.label) for row in found.rows] == [row[:3] for row in MEANT]
    assert not found.notes


CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_infinity=False), st.text())


@given(st.lists(st.dictionaries(st.text(min_size=1), CELLS, min_size=2), min_size=1, max_size=5))
def test_lines_and_lists_hold_the_same_rows(records):
    lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    header, *rows = read_records(lines)
    assert [header, *rows] == read_records(json.dumps(records))
    for record, row in zip(records, rows, strict=True):
        for name, cell in zip(header, row, strict=True):
            value = record.get(name)
            if value is None or value != value:
                assert cell == ""
            elif isinstance(value, str):
                assert cell == value.strip()
            else:
                assert json.loads(cell) == value
