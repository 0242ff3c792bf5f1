"""Check that the frequencies of the log-mel bands fit each other."""

from __future__ import annotations

from deiii.data.config.schema import LogMelConfig
from deiii.data.config.strict_yaml import ConfigError


def check_bands(logmel: LogMelConfig) -> None:
    """Refuse bands without width, and bands that begin above the highest frequency of the recording.

    Raises:
        ConfigError: names both settings.
    """
    if logmel.fmin >= logmel.fmax:
        raise ConfigError(f"logmel.fmin={logmel.fmin:g} must be less than logmel.fmax={logmel.fmax:g}")
    if 2 * logmel.fmin >= logmel.sample_rate:
        half = f"half of logmel.sample_rate={logmel.sample_rate}"
        raise ConfigError(f"logmel.fmin={logmel.fmin:g} must be less than {half}")
