"""The tasks of the ablation: variants of the network, the best accuracy possible with each, and settings.

docs/science-tasks.md explains every ceiling, which is that best accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A change to the full network, and the best accuracy that is possible with it.

    Attributes:
        about: description in words.
        changes: settings of the variant.
        ceiling: best accuracy that is possible with it, on its task.
        needs: for a change of one of DE-III's parts, what the network has to read or to have for it.
    """

    about: str
    changes: tuple[str, ...]
    ceiling: float
    needs: str = ""


FILES = ("configs/synthetic.yaml", "configs/ablation.yaml")  # settings that all runs share
AUDIO_ONLY = ("model.video=false", "model.flow=false")
FRAMES_ONLY = ("model.flow=false", "model.audio=false")
CUES = {
    "full": Variant("every part of the network", (), 1.0),
    "no_flow": Variant("no optical flow", ("model.flow=false",), 0.5),
    "no_frames": Variant("no frames", ("model.video=false",), 0.5),
    "no_audio": Variant("no audio", ("model.audio=false",), 0.5),
    "audio_only": Variant("audio alone", AUDIO_ONLY, 0.25),
    "frames_only": Variant("frames alone", FRAMES_ONLY, 0.25),
    "ov_concat": Variant(
        "OV replaced by concatenation", ("model.ov=concat",), 1.0, "frames, flow and model.ov=attention"
    ),
    "no_conformer": Variant("no Conformer", ("model.conformer=false",), 1.0, "model.conformer=true"),
    "no_ife": Variant("no IFE", ("model.ife=false",), 1.0, "video, audio and model.ife=true"),
    "fused_head_only": Variant(
        "no L_V, no L_A",
        ("model.modality_heads=false",),
        1.0,
        "video, audio and model.modality_heads=true",
    ),
    "modality_dropout": Variant("modality dropout 0.1", ("train.modality_dropout=0.1",), 1.0),
}
SYNC = {
    "full": Variant("frames and audio", (), 1.0),
    "no_ife": Variant("no IFE", ("model.ife=false",), 1.0),
    "no_time_match": Variant("no L_S", ("model.time_match=false",), 1.0),
    "audio_only": Variant("audio alone", AUDIO_ONLY, 0.5),
    "video_only": Variant("frames alone", ("model.audio=false",), 0.5),
}
# Without the Conformer, the network of audio alone pools windows that are shorter than the distance between
# the syllables, in any order, so it cannot determine which syllable comes first.
ORDER = {
    "full": Variant("audio alone", (), 1.0),
    "no_conformer": Variant("no Conformer", ("model.conformer=false",), 0.5),
}
BINDING = {
    "full": Variant("frames and flow", (), 1.0),
    "ov_concat": Variant("OV replaced by concatenation", ("model.ov=concat",), 1.0),
    "frames_only": Variant("frames alone", ("model.flow=false",), 0.5),
    "flow_only": Variant("flow alone", ("model.video=false",), 0.5),
}
# Without the Conformer, only layer normalisation and one linear layer follow the fusion of frames and flow.
BINDING_LINEAR = {
    "full": Variant("frames and flow", (), 1.0),
    "ov_concat": Variant("OV replaced by concatenation", ("model.ov=concat",), 1.0),
}
TOLD = {
    "full": Variant("L_V, L_A and modality dropout", (), 1.0),
    "no_modality_dropout": Variant("no modality dropout", ("train.modality_dropout=0",), 1.0),
    "fused_head_only": Variant("no L_V, no L_A", ("model.modality_heads=false",), 1.0),
    "neither": Variant("neither", ("train.modality_dropout=0", "model.modality_heads=false"), 1.0),
}
TASKS: Mapping[str, Mapping[str, Variant]] = {
    "cues": CUES,
    "sync": SYNC,
    "order": ORDER,
    "binding": BINDING,
    "binding_linear": BINDING_LINEAR,
    "told": TOLD,
}
# Changes of DE-III's parts, which make sense on every corpus. The ceilings are those of the task cues.
PARTS: Mapping[str, Variant] = {name: variant for name, variant in CUES.items() if variant.needs}
# DIS detects which cells tremble only in large crops: these have 47 px per half width of the face. One
# frame and its flow contain the label. One network with a learning rate of 2e-3 and batches of 32 learned
# little.
BINDING_SETTINGS = (
    "corpus.synthetic.task=binding", "corpus.root=raw/synthetic-binding",
    "corpus.synthetic.clips_per_class=30", "corpus.synthetic.seconds=0.8", "corpus.synthetic.fps=12.5",
    "corpus.synthetic.size=128", "stages=[faces,flow]", "faces.size=128", "loader.crop=96",
    "loader.steps=1", "loader.batch=64", "loader.colour=0",
    "model.audio=false", "model.channels=[8,16]", "model.width=32", "model.dropout=0",
    "train.label_smoothing=0", "train.lr=7e-4", "train.epochs=100", "train.patience=100",
)  # fmt: skip
# The label of sync is whether the mouth follows the audio. The task needs more frames, which are contiguous,
# and no flow. Without L_S no network learned it. A single stream contains no information about the label, so
# no stream is hidden or has a head of its own.
SETTINGS = {
    # With the plain audio encoder, networks learned the audio cue in 6 to 16 epochs or later; with this one,
    # in 2 to 4.
    "cues": ("corpus.root=raw/synthetic", "model.audio_channels=[8,16,32]"),
    "sync": (
        "corpus.synthetic.task=sync", "corpus.root=raw/synthetic-sync", "corpus.synthetic.clips_per_class=16",
        "loader.steps=16", "loader.sampling=contiguous", "loader.batch=32", "loader.colour=0",
        "loader.spec_masks=0", "model.channels=[8,16,32]", "model.flow=false", "model.dropout=0",
        "model.modality_heads=false",
        "model.time_match=true", "train.w_match=1", "train.modality_dropout=0", "train.label_smoothing=0",
        "train.lr=2e-3", "train.epochs=36", "train.patience=36",
    ),
    "order": (
        "corpus.synthetic.task=order", "corpus.root=raw/synthetic-order",
        "corpus.synthetic.clips_per_class=16", "corpus.synthetic.size=64", "corpus.synthetic.fps=10",
        "stages=[logmel]",
        "loader.spec_masks=0", "loader.batch=32", "model.video=false", "model.flow=false", "model.width=32",
        "model.dropout=0", "train.label_smoothing=0", "train.epochs=30", "train.patience=30",
    ),
    "binding": BINDING_SETTINGS,
    # With 100 epochs, the validation accuracy of one seed still rose at the end.
    "binding_linear": (
        *BINDING_SETTINGS, "model.conformer=false", "model.head=linear", "train.epochs=200",
        "train.patience=200",
    ),
    # The audio is hidden from validation and test clips.
    "told": (
        "corpus.synthetic.task=told", "corpus.root=raw/synthetic-told", "corpus.synthetic.clips_per_class=10",
        "corpus.synthetic.seconds=0.8", "corpus.synthetic.fps=10", "corpus.synthetic.size=96",
        "stages=[faces,logmel]", "split.hide=[audio]", "faces.size=64", "loader.crop=48", "loader.steps=2",
        "loader.audio_steps=80", "loader.colour=0", "loader.spec_masks=0",
        "model.flow=false", "model.channels=[8,16]", "model.width=32", "model.dropout=0",
        "train.modality_dropout=0.3", "train.label_smoothing=0", "train.epochs=36", "train.patience=36",
    ),
}  # fmt: skip
