"""12. Settings that would train nothing, or fail after hours: told in one line, before any work."""

from __future__ import annotations

import shutil

from tests.faults.checks import check_done, check_error
from tests.faults.harness import Lost, faults
from tests.faults.training import rows, start, undisturbed
from tests.faults.workspace import Workspace

impossible = faults("13 settings")
TOLD = (
    "exit status 1 and one line that names the setting and its range; no run folder; the command then works"
)

BEYOND = (
    "train.warmup=500", "train.modality_dropout=3", "train.label_smoothing=1.5", "loader.spec_masks=-1",
    "train.seed=-1", "model.dropout=1.5", "train.lr=0", "train.lr=1000", "train.ema=1", "train.patience=-1",
    "train.clip_norm=-1", "train.epochs=0", "loader.batch=0", "loader.steps=0", "loader.audio_steps=0",
    "loader.stretch=15", "loader.mel_warp=2", "loader.flip=2", "loader.gain_db=-3", "split.val_share=1",
    "split.val_share=0", "split.fold=-1", "model.width=0", "model.heads=0", "model.blocks=-1",
    "model.audio_channels=[16,0]", "model.channels=[]", "model.grid=0", "logmel.hop_ms=0", "logmel.fmin=9000",
    "loader.zoom=3", "loader.rotate=-5", "loader.erase=1.5", "loader.grey=-1", "loader.flow_frames=0",
    "loader.flow_join=mean", "train.accumulate=0", "train.accumulate=5",
    "train.monitor=ccc", "train.w_audio=-1", "workers=-2", "clip_timeout=0",
)  # fmt: skip


@impossible("train with {case}", TOLD, cases=BEYOND, short={"train.warmup=500", "train.monitor=ccc"})
def beyond(work: Workspace, case: str) -> str:
    run = work.folder() / "run"
    said = check_error(start(work, run, case).wait(), case.split("=")[0].split(".")[-1])
    if list(run.glob("*.yaml")) or list(run.glob("*.safetensors")):
        raise Lost("a run folder was left behind")
    return said


@impossible("train.lr=1000, then the same command with a sane rate", "the second command trains", short=True)
def then_sane(work: Workspace) -> str:
    run = work.folder() / "run"
    check_error(start(work, run, "train.lr=1000").wait(), "train.lr")
    check_done(start(work, run, "train.epochs=1").wait())
    return f"{rows(run)} epoch"


@impossible("--resume of a run with model.dropout=1.5", "refused; the run stays")
def resumed(work: Workspace) -> str:
    run = work.folder() / "run"
    shutil.copytree(undisturbed(work), run)
    before = (run / "best.safetensors").read_bytes()
    said = check_error(start(work, run, "--resume", "model.dropout=1.5").wait(), "model.dropout")
    if (run / "best.safetensors").read_bytes() != before:
        raise Lost("the best checkpoint changed")
    return said
