"""Devices that can be had and those that cannot."""

from __future__ import annotations

import pytest
import torch

from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.devices import pick_device


def test_devices_that_are_not_there_are_refused():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        pick_device("tpu?")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="train.device=cpu"):
            pick_device("cuda")
