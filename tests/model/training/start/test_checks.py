"""Sizes with which no training can start are refused with the names of the settings."""

import pytest

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.model.training.start.checks import check_sizes
from tests.helpers.model_helpers import random_batch
from tests.helpers.network_switches import make

SINGLE = ["loader.batch=1", "loader.steps=1", "loader.crop=8", "model.grid=1", "model.channels=[8,16]"]


@pytest.mark.parametrize(
    "word", [None, "loader.batch=2", "loader.steps=2", "loader.crop=9", "model.channels=[8]"]
)
def test_batch_normalisation_over_a_single_value_is_refused(word):
    """PyTorch raises an error that names no setting, in the first step."""
    config = read_settings([*SINGLE, *([word] if word else [])])
    batch = random_batch(config.loader.batch, steps=config.loader.steps, size=config.loader.crop)
    network = make(grid=1, channels=config.model.channels).train()
    if word:
        check_sizes(config)
        network(batch)
        return
    with pytest.raises(
        ConfigError, match=r"loader\.batch=1, loader\.steps=1 and loader\.crop=8 .*use a larger"
    ):
        check_sizes(config)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(batch)
    for other in (["model.video=false", "model.flow=false"], ["model.imagenet=true", "model.flow=false"]):
        check_sizes(read_settings([*SINGLE, *other]))
