"""What differs between the versions of PyAV that are supported."""

from typing import Any

import av

# PyAV 19 reads metadata that is not UTF-8 as it is. Earlier versions refuse the file unless told to replace it.
LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
