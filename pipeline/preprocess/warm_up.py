"""Load models on the workers with a GPU while the stage upstream is computed.

The first flow shard of a worker would else begin with the imports of PyTorch, the start of CUDA, the weights
and the compilation of kernels, and the crops of the first shard would wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from distributed import Client, Future

from deiii.data.cache.index import ShardRecord
from deiii.data.cache.stages import FLOW
from deiii.data.cluster.on_workers import submit_checked
from deiii.data.config.schema import Config
from deiii.pipeline.preprocess.cluster import gpu_workers, runs_on_gpu
from deiii.pipeline.preprocess.tasks import waits
from deiii.pipeline.stages.clip import load_models, load_settings, run_downstream, settle_process
from deiii.pipeline.stages.shard import ShardTask

FRAMES = 3  # two pairs: a single one is computed without the compiled kernels


def start_models(
    client: Client, config: Config, tasks: Sequence[ShardTask], done: dict[str, dict[str, ShardRecord]]
) -> list[Future]:
    """Let every connected worker with a GPU load the models of the stages whose shards wait for others.

    The models stay in the worker's process (`loaded_models`), where its shards find them. The run does not
    wait for the result. A failure is not reported here: the first shard of the stage fails in the same way.

    Args:
        client: client of the cluster.
        config: settings of the run.
        tasks: the shards to compute, with the settings for workers.
        done: records of finished shards by stage and shard name.

    Returns:
        what has to be kept until the run ends; Dask releases a task when its last future is deleted.
    """
    wanted = {task.recipe.stage: task.settings for task in tasks if runs_on_gpu(config, task.recipe.stage)}
    startable = {task.recipe.stage for task in tasks if not waits(task, done)}
    return [
        submit_checked(
            client,
            None,
            warm_up,
            stage,
            settings,
            workers=[address],
            key=("warm-up", stage, address),
            priority=2,  # before all shards
        )
        for stage, settings in wanted.items()
        if stage not in startable
        for address in gpu_workers(client)
    ]


def warm_up(stage: str, settings: str) -> None:
    """Load the models of a stage into this process, and compute the flow of a few black frames.

    Args:
        stage: name of the stage.
        settings: the settings as YAML text, those of the shards that follow.
    """
    settle_process()
    config = load_settings(settings)
    load_models(stage, config)
    if stage == FLOW.name:
        size = config.faces.size
        clip: dict[str, np.ndarray] = {
            "frames": np.zeros((FRAMES, size, size, 3), np.uint8),
            "time": np.arange(FRAMES) / 25,
            "valid": np.ones(FRAMES, bool),
        }
        for _ in run_downstream(stage, [clip], config):
            pass
