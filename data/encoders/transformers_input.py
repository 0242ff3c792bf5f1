"""What prepares the input of a network of transformers, from ``preprocessor_config.json`` in its folder."""

from __future__ import annotations

from typing import Any

from deiii.data.encoders.record import SAMPLE_RATE
from deiii.data.tools.weights import WeightsError

INPUT_SETTINGS = "preprocessor_config.json"
AUDIO, IMAGES = "AutoFeatureExtractor", "AutoImageProcessor"  # classes of transformers


def load_preparer(folder: str, kind: str) -> Any:
    """Return the object of transformers that prepares audio or images for the network of a folder.

    Args:
        folder: folder with ``preprocessor_config.json``.
        kind: `AUDIO` or `IMAGES`.

    Raises:
        WeightsError: the file is damaged, belongs to another kind of network or to code of its own, or asks
            for audio of another rate than 16 kHz; or transformers lacks a package for it.
        ImportError: an installed package cannot be imported.
    """
    import transformers

    try:
        preparer = getattr(transformers, kind).from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except ImportError as error:
        if error.name:  # a package cannot be imported; the folder may be right
            raise
        raise WeightsError(
            f"{folder}: {kind} of transformers needs a package that is not installed "
            f"({' '.join(str(error).split()):.200}); install it, or choose another encoder"
        ) from None
    except Exception as error:  # transformers raises many types for settings that it does not know
        raise WeightsError(
            f"{folder}/{INPUT_SETTINGS} cannot be used ({str(error).splitlines()[0]:.200}); it must not need "
            f"code of its own. Write the file again: {kind}.from_pretrained(ITS_NAME).save_pretrained("
            f"{folder!r}) of transformers, or choose another encoder"
        ) from None
    if kind == AUDIO and preparer.sampling_rate != SAMPLE_RATE:
        raise WeightsError(
            f"{folder} reads audio of {preparer.sampling_rate} Hz (preprocessor_config.json); deiii gives "
            f"{SAMPLE_RATE} Hz: choose another encoder"
        )
    return preparer
