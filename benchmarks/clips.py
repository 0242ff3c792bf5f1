"""Face crops for the flow benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deiii.data.config.schema import CorpusConfig, FacesConfig, SyntheticConfig
from deiii.data.corpora import synthetic
from deiii.data.corpora.synthetic.make import make
from deiii.pipeline.faces.stage import extract_faces, load_detector


def face_clips(size: int, least: int) -> tuple[str, list[np.ndarray]]:
    """Return the source, and crops uint8 [n,size,size,3] of each clip with at least ``least`` frames.

    The source is the GRID clips in DEIII_TEST_DATA if it is set, else the synthetic corpus.
    """
    shared = os.environ.get("DEIII_TEST_DATA")
    detector = "yunet" if shared else "haar"
    weights = str(Path(shared) / "weights" / "face_detection_yunet_2023mar.onnx") if shared else None
    config = FacesConfig(detector=detector, weights=weights, size=size)
    found = load_detector(config)

    def crops(path):
        return extract_faces(path, config, found).arrays.get("frames", np.empty(0))

    if shared:
        clips = [crops(p) for p in sorted(Path(shared).glob("media/grid/*.mpg"))]
        return "GRID", [c for c in clips if len(c) >= least]
    with TemporaryDirectory() as root:
        config_synthetic = SyntheticConfig(speakers=2, clips_per_class=1)
        make(root, config_synthetic, workers=1, progress=False)
        corpus = synthetic.scan(CorpusConfig(root=root, synthetic=config_synthetic))
        clips = [crops(Path(root) / clip.path) for clip in corpus.clips[:6]]
    return "synthetic", [c for c in clips if len(c) >= least]
