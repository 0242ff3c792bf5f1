"""Settings with the values that this machine or this run gives to ``auto``, for the workers of a run."""

from __future__ import annotations

from dataclasses import replace

from deiii.data.cache.stages import get_stage, with_upstream
from deiii.data.config.schema import Config
from deiii.pipeline.stages.limits import memory_of_worker

# Clips from which compilation pays. On an H200 it takes about 15 s and raises 7,600 pairs/s of raft_large to
# 13,500, which saves as much after 250,000 pairs, but it overlaps with the decoding of the first clips.
COMPILE_FROM = 1500


def settled(config: Config) -> Config:
    """Return the configuration with the values that ``auto`` stands for on this machine (`Stage.settled`).

    Workers on other machines compute with these, so that their results agree with the keys.

    >>> settled(Config()).flow.precision  # of a method that has no precision
    'auto'
    """
    for name in with_upstream(config.stages):
        stage = get_stage(name)
        if values := stage.settle(config):
            config = replace(config, **{name: replace(stage.section(config), **values)})
    return config


def placed(config: Config, device: str) -> Config:
    """Return the configuration in which stages with ``device=auto`` that can use a GPU have a device.

    Args:
        config: all settings.
        device: ``cuda`` for workers that must have a GPU, ``cpu`` for those that must not use one.

    >>> placed(Config(), "cpu").flow.device  # of a method that uses no GPU
    'auto'
    """
    for name in with_upstream(config.stages):
        stage = get_stage(name)
        section = stage.section(config)
        if stage.on_gpu(section) and getattr(section, "device", "") == "auto":
            config = replace(config, **{name: replace(section, device=device)})
    return config


def within_memory(config: Config) -> Config:
    """Return the configuration in which no clip may use more memory than the job or pod of its worker has.

    Otherwise the system would end the job or the pod, and no reason could be recorded for the clip.

    >>> within_memory(Config()).clip_memory_gb  # this machine ends no worker
    8.0
    """
    return replace(config, clip_memory_gb=min(config.clip_memory_gb, memory_of_worker(config)))


def launched(config: Config, clips: int) -> Config:
    """Return the configuration with the launch for ``flow.launch=auto`` that suits a number of clips.

    Args:
        config: all settings.
        clips: number of clips whose flow is to be computed.

    >>> launched(Config(), 10_000).flow.launch
    'compile'
    """
    if config.flow.launch != "auto":
        return config
    return replace(config, flow=replace(config.flow, launch="compile" if clips >= COMPILE_FROM else "eager"))
