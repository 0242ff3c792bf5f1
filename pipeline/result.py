"""What a stage function returns for one clip."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deiii.data.outcomes import Outcome


@dataclass
class StageResult:
    """A clip's outcome in a stage and, where usable, its arrays.

    Attributes:
        outcome: exactly one per clip and stage.
        arrays: by field name; the first axis (frames, hops) is the same length in all of them.
            Empty where the outcome is not usable.
    """

    outcome: Outcome
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
