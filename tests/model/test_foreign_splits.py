"""Training on a foreign split: refused where it leaks, unless told otherwise."""

from __future__ import annotations

import json

from deiii.__main__ import main
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows


def test_a_leaking_split_is_refused_unless_allowed(tmp_path, capsys):
    root, cache, run = tmp_path / "raw", tmp_path / "cache", tmp_path / "run"
    write_rows(root, tone_rows(root, speakers=4, clips=2))
    words = words_for(root, cache, run)
    assert preprocess(*words) == 0
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, names in {
        "train": ["s0/c0", "s0/c1", "s1/c0", "s1/c1"],
        "val": ["s2/c0", "s2/c1"],
        "test": ["s3/c0", "s3/c1"],
    }.items():
        (lists / f"{part}.txt").write_text("\n".join(names))
    clean, leaking = tmp_path / "clean.yaml", tmp_path / "leaking.yaml"
    assert main(["splits", "import", str(lists), "--out", str(clean)]) == 0
    (lists / "test.txt").write_text("s3/c0\ns2/c1")
    (lists / "val.txt").write_text("s2/c0\ns9/gone")
    assert main(["splits", "import", str(lists), "--out", str(leaking)]) == 0
    capsys.readouterr()
    assert main(["audit", str(leaking), *words]) == 1
    assert "LEAK: 1 of 2 speakers of test are in val too: s2" in capsys.readouterr().out
    assert main(["audit", str(clean), *words]) == 0
    capsys.readouterr()
    assert main(["train", *words, f"split.protocol={leaking}", "--quiet"]) == 1
    assert "split.leaks=allow" in capsys.readouterr().err
    assert not (run / "run.json").exists()
    assert main(["train", *words, f"split.protocol={leaking}", "split.leaks=allow", "--quiet"]) == 0
    told = capsys.readouterr().err
    assert "LEAK" in told and "1 of 8 listed names have no clip in the corpus: s9/gone" in told
    assert json.loads((run / "split.json").read_text())["leaks"] is True
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert (
        "may also be in training (split.leaks=allow): the figures may be too high" in capsys.readouterr().out
    )
    page = (run / "report.html").read_text()
    assert "may also be in training (split.leaks=allow)" in page and "that training did not use" not in page
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "(split.leaks=allow), so the figures may be too high" in card
    assert "that training did not use" not in card
