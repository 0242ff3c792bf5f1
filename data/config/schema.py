"""Every setting of the project, with its default, its meaning and whether it changes results.

These dataclasses are the schema: `deiii.data.config.load.load_config` merges YAML and ``key=value``
overrides into them and refuses unknown keys. A setting marked ``operational`` (workers, devices,
batch sizes of preprocessing) changes no result and never enters a stage key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from deiii.data.config.plugins import STAGES
from deiii.data.config.schema_encoders import AppearanceConfig, Speech2Config, SpeechConfig
from deiii.data.config.schema_fields import MOST_SEED, opt, result_params
from deiii.data.config.schema_preprocess import (
    ClusterConfig,
    CorpusConfig,
    FacesConfig,
    FlowConfig,
    LogMelConfig,
    SyntheticConfig,
)
from deiii.data.config.schema_train import ModelConfig, TrainConfig

__all__ = [
    "AppearanceConfig",
    "ClusterConfig",
    "Config",
    "CorpusConfig",
    "FacesConfig",
    "FlowConfig",
    "LoaderConfig",
    "LogMelConfig",
    "ModelConfig",
    "Speech2Config",
    "SpeechConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TrainConfig",
    "opt",
    "result_params",
]


@dataclass
class SplitConfig:
    """Which speakers are trained on, validated on and tested on.

    No speaker is in two parts, unless ``leaks`` allows it.
    """

    protocol: str = opt(
        "auto",
        "Name of a split protocol that comes with deiii, or the path of one in YAML; auto uses the corpus's "
        "own.",
        path=True,
    )
    fold: int = opt(0, "Fold that is tested, counted from 0.", low=0, high=10_000)
    val_share: float = opt(
        0.15,
        "Share of the training speakers that are kept for validation. 0 keeps none and trains on all of "
        "them; it needs train.monitor=last, because there is nothing to choose an epoch by, and no "
        "temperature is fitted. Validation speakers that the protocol itself lists are kept in any case.",
        low=0,
        below=1,
    )
    seed: int = opt(
        0,
        "Seed that chooses the validation speakers; the test fold does not depend on it.",
        low=0,
        high=MOST_SEED,
    )
    hide: list[str] = opt(
        [],
        "Streams that are removed from validation and test clips, e.g. [audio]; training clips keep them. "
        "Use it to test a network without an input that it was trained with.",
    )
    leaks: str = opt(
        "refuse",
        "Whether to train on an imported split if the audit finds speakers, takes or recordings that are in "
        "two of its parts: refuse, or allow; the report then states this.",
        choices=("refuse", "allow"),
    )


@dataclass
class LoaderConfig:
    """How clips are sampled from the caches, augmented and put into batches."""

    steps: int = opt(
        8, "Number T of video steps (frames with their flow) sampled from a clip.", low=1, high=4096
    )
    stride: int = opt(2, "Steps are sampled from every stride-th frame.", low=1, high=10_000)
    flow_per_second: bool = opt(
        True,
        "Divide flow by the time to the next frame: px in 1/25 s, whatever the frame rate. false keeps px "
        "to the next frame, as in runs that are older than this setting.",
    )
    flow_frames: int = opt(
        1,
        "Number of successive frames whose flow each step reads: the flow from the step's frame to the next "
        "one, from that one to the one after it, and so on, on native frames whatever loader.stride is. Flow "
        "that is not valid, or that lies behind the end of the clip, counts as zero; a step's flow is valid "
        "if that of its own frame is. With K frames, stored flow takes K times as many bytes in each batch, "
        "in reads and in copies to a GPU (not with loader.residency=device), and K times the time to crop.",
        low=1,
        high=64,
    )
    flow_join: str = opt(
        "sum",
        "How the flow of loader.flow_frames=K frames is joined. sum: added up at each place of the crop, px "
        "in K/25 s (px to the K-th next frame where loader.flow_per_second is off), which model.flow_scale "
        "may have to make smaller; stack: 2K channels u1, v1, u2, v2, ..., in the unit of a single frame.",
        choices=("sum", "stack"),
    )
    sampling: str = opt(
        "segments",
        "How steps are sampled: one in each of T equal segments of the clip, or T neighbours on the grid.",
        choices=("segments", "contiguous"),
    )
    audio_steps: int = opt(160, "Number L of log-mel hops given to the network.", low=1, high=100_000)
    eval_audio_steps: int = opt(
        0,
        "Number of log-mel hops in validation and test; 0 uses the same number as in training.",
        low=0,
        high=100_000,
    )
    crop: int = opt(
        96,
        "Height and width in px of the square given to the network; its place is random in training, the "
        "centre otherwise.",
        low=8,
        high=1024,
    )
    batch: int = opt(32, "Number of clips in a batch.", low=1, high=65_536)
    residency: str = opt(
        "auto",
        "Where frames, flow and log-mel are kept during training: in mapped files, memory or GPU memory; "
        "auto chooses by their size.",
        choices=("auto", "stream", "ram", "device"),
        operational=True,
    )
    threads: int = opt(2, "Number of threads that fill batches.", operational=True, low=1, high=1024)
    ahead: int = opt(3, "Number of batches prepared in advance.", operational=True, low=1, high=1024)
    timeout: float = opt(
        300.0,
        "Time in s without a batch after which training stops, because the disk does not answer.",
        operational=True,
        low=1,
        high=1e7,
    )
    flip: float = opt(
        0.5, "Probability of a horizontal flip in training; it negates the flow's u component.", low=0, high=1
    )
    colour: float = opt(
        0.2,
        "Strength of random brightness, contrast and saturation in training; factors lie in 1 ± colour.",
        low=0,
        below=1,
    )
    grey: float = opt(0.0, "Probability that all frames of a clip become grey in training.", low=0, high=1)
    zoom: float = opt(
        0.0,
        "Largest random change of size in training, as a share: frames and flow vectors are enlarged or "
        "reduced by a factor of up to 1 + zoom, the same for all steps of a clip. They are reduced only as "
        "far as the stored crops reach (faces.size beyond loader.crop).",
        low=0,
        high=1,
    )
    rotate: float = opt(
        0.0,
        "Largest random rotation in training, in degrees, which is the same for all steps of a clip; it "
        "rotates flow vectors too.",
        low=0,
        high=180,
    )
    erase: float = opt(
        0.0,
        "Probability that a random rectangle of 2 to 20 % of the square is erased in all frames and flow of "
        "a clip in training.",
        low=0,
        high=1,
    )
    spec_masks: int = opt(
        2, "Number of SpecAugment masks along time, and along frequency, in training.", low=0, high=100
    )
    time_shift: float = opt(
        0.0, "Largest random shift in s of audio against video in training.", low=0, high=60
    )
    normalise: str = opt(
        "none",
        "Normalisation of each mel band: none; the clip's mean; or mean and standard deviation over the "
        "speaker's clips, which uses the unlabelled clips of test speakers too.",
        choices=("none", "clip", "speaker"),
    )
    stretch: float = opt(0.0, "Largest random change of tempo in training, as a share.", low=0, high=3)
    mel_shift: float = opt(
        0.0, "Largest random shift along the mel axis in training, in bands.", low=0, high=512
    )
    mel_warp: float = opt(
        0.0, "Largest random stretching of the mel axis in training, as a share.", low=0, below=1
    )
    gain_db: float = opt(0.0, "Largest random change of the level in training, in dB.", low=0, high=100)


@dataclass
class Config:
    """All settings."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    mix: list[str] = opt(
        [],
        "Configs of further corpora to train and test on together with this one; classes are joined by name.",
        path=True,
    )
    mix_weights: list[float] = opt(
        [],
        "Weight of a clip in the losses of classes, for each config of mix; a clip of the first corpus has "
        "weight 1. If empty, all clips have weight 1.",
        above=0,
        high=1000,
    )
    mix_test: bool = opt(
        True,
        "Whether the corpora of mix are also validated and tested; false only trains on them, and "
        "split.protocol divides the first corpus alone.",
    )
    copies: list[str] = opt(
        [],
        "Corrupted copies of the training clips to also train on, such as [speed=0.9, speed=1.1]. The "
        "kinds are those of corpus.corrupt; `deiii preprocess` computes the features.",
    )
    cache: str = opt("cache", "Folder of the feature caches.", operational=True, path=True)
    stages: list[str] = opt(
        ["faces", "flow", "logmel"],
        "Stages to compute: these, and those that installed packages add.",
        choices=("faces", "flow", "logmel", "speech", "speech2", "appearance"),
        operational=True,
        group=STAGES,
    )
    faces: FacesConfig = field(default_factory=FacesConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    logmel: LogMelConfig = field(default_factory=LogMelConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    speech2: Speech2Config = field(default_factory=Speech2Config)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    workers: int = opt(
        0, "Number of worker processes; 0 starts one for each core.", operational=True, low=0, high=100_000
    )
    scheduler: str | None = opt(
        None,
        "Address of a running Dask scheduler, e.g. tcp://host:8786; if empty, a cluster is started.",
        operational=True,
    )
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    gpus: int = opt(
        -1,
        "Number of GPUs for the stages that can use one (flow with RAFT, frozen encoders); -1 uses all that "
        "are found.",
        operational=True,
        low=-1,
        high=1024,
    )
    dashboard: str = opt(
        "127.0.0.1:0", "Address of Dask's dashboard; port 0 picks a free port.", operational=True
    )
    max_failed: float = opt(
        0.1,
        "Largest share of clips that may fail; if more fail, preprocessing ends with exit status 1.",
        operational=True,
        low=0,
        high=1,
    )
    clip_timeout: float = opt(
        600.0,
        "Longest time in s that one clip may take in one stage, from the reading of its file to its result; "
        "then it ends as timed_out. Clips that are computed in one batch have the sum of their limits.",
        operational=True,
        low=1,
        high=1e7,
    )
    clip_memory_gb: float = opt(
        8.0,
        "Most memory in GiB that one clip may use; then it ends as out_of_memory. In SLURM jobs and "
        "Kubernetes pods it is at most cluster.memory_gb less 1 GiB, or half of it if that is more.",
        operational=True,
        low=0.1,
        high=100_000,
    )
    retry: bool = opt(
        False,
        "Compute shards again in which a clip ended as timed_out, out_of_memory or crashed_decoder. "
        "Clips that ended as failed are tried again by every run.",
        operational=True,
    )
    check: str = opt(
        "bytes",
        "How finished shards are checked before they are reused or trained on: by every byte, or by their "
        "size, which is faster and misses changed bytes.",
        choices=("bytes", "sizes"),
        operational=True,
    )
    split: SplitConfig = field(default_factory=SplitConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def is_mixture(self) -> bool:
        """Whether several corpora, or corrupted copies of one, are trained on together."""
        return bool(self.mix or self.copies)
