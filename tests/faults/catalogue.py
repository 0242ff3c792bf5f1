"""Registers all faults by importing their modules, in the order of the groups."""

from tests.faults import kills  # noqa: F401, I001
from tests.faults import poison  # noqa: F401
from tests.faults import disk  # noqa: F401
from tests.faults import concurrent_runs as together  # noqa: F401
from tests.faults import rot  # noqa: F401
from tests.faults import badmedia  # noqa: F401
from tests.faults import fuzz_corpus as fuzzed  # noqa: F401
from tests.faults import tables  # noqa: F401
from tests.faults.hostile import shards as hostile  # noqa: F401
from tests.faults.hostile import indices as hostile_index  # noqa: F401
from tests.faults.hostile import weights as hostile_weights  # noqa: F401
from tests.faults import training  # noqa: F401
from tests.faults import downloads  # noqa: F401
from tests.faults import loopback  # noqa: F401
from tests.faults import identity  # noqa: F401
from tests.faults import impossible_settings  # noqa: F401
from tests.faults.recordings import times as recorded_times  # noqa: F401
from tests.faults.recordings import streams as recorded_streams  # noqa: F401
from tests.faults.recordings import pictures as recorded_pictures  # noqa: F401
from tests.faults.recordings import levels as recorded_levels  # noqa: F401
from tests.faults.recordings import labels as recorded_labels  # noqa: F401
from tests.faults.recordings import places as recorded_places  # noqa: F401
from tests.faults.harness import FAULTS

__all__ = ["FAULTS"]
