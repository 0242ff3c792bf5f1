"""The files that `deiii init` writes: their names."""

from __future__ import annotations

from deiii.pipeline.init.write import file_name


def test_a_proposed_configuration_has_no_shipped_name(tmp_path):
    (tmp_path / "emotional_av").mkdir()
    assert file_name(tmp_path / "emotional_av") == "my_emotional_av.yaml"
