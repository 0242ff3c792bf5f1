"""Preprocess by a simple script: one clip after the other, every frame, every pair.

    python -m benchmarks.serial CORPUS OUT YUNET|- RAFT|-

PyAV decodes; a face is detected on every frame (`cv2.FaceDetectorYN`, or OpenCV's Haar cascade) and
cropped from that frame's detection; flow is computed pair by pair (torchvision's RAFT, or OpenCV's DIS);
librosa computes the log-mel; h5py writes one file per clip. Libraries use their default numbers of
threads. The results have our default sizes: crops of 112 px, flow at 128 px as RAFT needs it, 80 mel
bands.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import h5py
import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_small

SIZE, MARGIN, DETECT, UPDATES, RAFT_SIZE = 112, 0.25, 320, 12, 128
GOAL = np.array([[0.325, 0.395], [0.675, 0.395], [0.5, 0.61], [0.34, 0.765], [0.66, 0.765]])


class Script:
    """The detector, the flow method and the steps of the script, for one clip after the other.

    Args:
        yunet: path of YuNet's weights; ``-`` for OpenCV's Haar cascade.
        raft: path of the weights of RAFT small; ``-`` for DIS.
    """

    def __init__(self, yunet: str, raft: str):
        self.yunet = cv2.FaceDetectorYN.create(yunet, "", (DETECT, DETECT), 0.6) if yunet != "-" else None
        self.haar = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
        self.raft = None
        if raft != "-":
            self.raft = raft_small().eval()
            self.raft.load_state_dict(torch.load(raft, weights_only=True))
        self.dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def crop(self, rgb: np.ndarray) -> np.ndarray | None:
        scale = min(1.0, DETECT / max(rgb.shape))
        small = cv2.resize(rgb, None, fx=scale, fy=scale)
        if self.yunet is not None:
            self.yunet.setInputSize(small.shape[1::-1])
            _, found = self.yunet.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
            if found is None:
                return None
            points = found[0, 4:14].reshape(5, 2) / scale
        else:
            boxes = self.haar.detectMultiScale(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), 1.1, 5)
            if not len(boxes):
                return None
            points = (boxes[0][:2] + GOAL * boxes[0][2:]) / scale
        matrix, _ = cv2.estimateAffinePartial2D(points, (GOAL + MARGIN) / (1 + 2 * MARGIN) * SIZE)
        return cv2.warpAffine(rgb, matrix, (SIZE, SIZE))

    def flow(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        if self.raft is None:
            greys = [cv2.cvtColor(c, cv2.COLOR_RGB2GRAY) for c in (one, two)]
            return self.dis.calc(*greys, None)
        pair = torch.from_numpy(np.stack([one, two])).permute(0, 3, 1, 2).float() / 127.5 - 1
        pair = F.interpolate(pair, (RAFT_SIZE, RAFT_SIZE), mode="bilinear", align_corners=False)
        with torch.no_grad():
            flow = self.raft(pair[:1], pair[1:], num_flow_updates=UPDATES)[-1]
        flow = F.interpolate(flow, (SIZE, SIZE), mode="bilinear", align_corners=False) * (SIZE / RAFT_SIZE)
        return flow[0].permute(1, 2, 0).numpy()

    def clip(self, path: Path, out: Path) -> None:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        with av.open(str(path)) as container:
            audio = [f.to_ndarray().mean(axis=0) for f in container.decode(audio=0)]
            rate = container.streams.audio[0].rate
        crops = [self.crop(rgb) for rgb in frames]
        crops = [c if c is not None else np.zeros((SIZE, SIZE, 3), np.uint8) for c in crops]
        flow = [self.flow(a, b) for a, b in zip(crops[:-1], crops[1:], strict=True)]
        samples = librosa.resample(np.concatenate(audio), orig_sr=rate, target_sr=16000)
        mel = librosa.feature.melspectrogram(
            y=samples, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=80, fmin=50, fmax=7600
        )
        with h5py.File(out, "w") as file:
            file["frames"] = np.stack(crops)
            file["flow"] = np.stack(flow).astype(np.float16)
            file["logmel"] = librosa.power_to_db(mel).T.astype(np.float16)


def main(root: str, out: str, yunet: str, raft: str) -> None:
    script = Script(yunet, raft)
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(root).rglob("*.mp4")):
        script.clip(path, Path(out) / f"{path.parent.name}-{path.stem}.h5")


if __name__ == "__main__":
    main(*sys.argv[1:])
