"""Differences between the versions of PyAV that are supported."""

from typing import Any

import av

# Before version 19, PyAV refuses files with metadata that is not UTF-8 unless an option replaces it.
LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
