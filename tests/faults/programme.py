"""All faults, group by group."""

import badmedia  # noqa: F401
import hostile  # noqa: F401
import kills  # noqa: F401
import rot  # noqa: F401
import tables  # noqa: F401
from harness import FAULTS

__all__ = ["FAULTS"]
