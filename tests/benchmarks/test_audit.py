"""The cases of the benchmark of the audit."""

from __future__ import annotations

from benchmarks.audit import clean_protocols
from deiii.data.corpora.protocol import load_protocol, protocol_names


def test_every_protocol_of_whole_speakers_is_clean():
    found = {name: audit.leaks for name, audit in clean_protocols()}
    assert not any(found.values())
    expected = {name for name in protocol_names() if not load_protocol(name).foreign}
    assert {name.partition(" fold ")[0] for name in found} == expected
