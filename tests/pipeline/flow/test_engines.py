"""OpenCV's flow methods in several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deiii.pipeline.flow.engines import PairEngine
from tests.pipeline.flow.test_stage import sliding


def test_threads_that_share_opencvs_method_get_their_own_flow():
    """The method keeps its image pyramids, so that threads at the same time mixed their images."""
    engine = PairEngine("dis", "float16")
    clips = [sliding(4, 96, u=u, seed=n).frames for n, u in enumerate((1.0, -2.0, 0.5))]
    first = np.arange(3)
    wanted = [engine.submit(frames, first, False)()["flow"] for frames in clips]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda frames: engine.submit(frames, first, False)()["flow"], clips * 6))
    for flow, same in zip(found, wanted * 6, strict=True):
        np.testing.assert_array_equal(flow, same)
