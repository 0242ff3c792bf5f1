"""All faults, group by group."""

import kills  # noqa: F401, I001 - in the order of the groups
import poison  # noqa: F401
import disk  # noqa: F401
import together  # noqa: F401
import rot  # noqa: F401
import badmedia  # noqa: F401
import fuzzed  # noqa: F401
import tables  # noqa: F401
import hostile  # noqa: F401
import hostile_index  # noqa: F401
import hostile_weights  # noqa: F401
import training  # noqa: F401
import downloads  # noqa: F401
import loopback  # noqa: F401
from harness import FAULTS

__all__ = ["FAULTS"]
