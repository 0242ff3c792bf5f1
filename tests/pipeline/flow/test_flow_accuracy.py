"""Each flow method against the known motion of synthetic clips."""

import cv2
import numpy as np
import pytest

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.config.schema import FlowConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.motion import true_motion
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.flow.stage import load_engine

STEP = 12  # frames between the first and the second one of a pair


def error_share(config):
    """Mean end-point error as a share of the mean motion."""
    cv2.setNumThreads(1)
    plan = plan_clip(SyntheticConfig(size=160), 24)
    truth, known = (x[::STEP] for x in true_motion(plan, STEP))
    frames = np.ascontiguousarray(render_frames(plan)[::STEP])
    flow = decode_flow(load_engine(config).submit(frames, np.arange(len(frames) - 1), False)())
    moving = known & truth.any(axis=3)
    return np.linalg.norm(flow - truth, axis=3)[moving].mean() / np.linalg.norm(truth, axis=3)[moving].mean()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_opencvs_methods_follow_the_known_motion(method):
    assert error_share(FlowConfig(method=method)) < 0.6


def test_raft_follows_the_known_motion(test_data):
    weights = str(test_data / "weights" / "raft_small_princeton.pth")
    assert error_share(FlowConfig(method="raft", weights=weights, device="cpu")) < 0.3
