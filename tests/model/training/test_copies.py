"""One recording in two formats under two speakers is named before training."""

from __future__ import annotations

import numpy as np
import soundfile

from deiii.__main__ import main
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows


def test_a_copy_in_another_format_is_named_with_both_speakers(tmp_path, capsys):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    rows = tone_rows(root)
    first, last = rows[0], rows[-1]
    samples, rate = soundfile.read(root / first[0], dtype="int16")
    copy = root / last[0]
    copy.unlink()
    soundfile.write(copy.with_suffix(".wav"), samples, rate, subtype="PCM_16")
    last[0] = last[0].replace(".flac", ".wav")
    write_rows(root, rows)
    assert (root / first[0]).read_bytes() != (root / last[0]).read_bytes()
    assert preprocess(*words_for(root, cache)) == 0
    capsys.readouterr()
    assert main(["train", *words_for(root, cache, tmp_path / "run"), "--quiet"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "one recording" in line]
    assert len(told) == 1 and told[0].startswith("warning: one recording under several speakers: ")
    for path, speaker, label in (first, last):
        assert f"{path} (" in told[0] and f"speaker {speaker}, label {label})" in told[0]
    # without the copy nothing is said
    soundfile.write(
        root / last[0], (samples * np.linspace(0, 1, len(samples))).astype(np.int16), rate, subtype="PCM_16"
    )
    assert preprocess(*words_for(root, cache)) == 0
    capsys.readouterr()
    assert main(["train", *words_for(root, cache, tmp_path / "other"), "--quiet"]) == 0
    assert "one recording" not in capsys.readouterr().err
