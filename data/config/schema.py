"""Every setting of the project, with its default, its meaning and whether it changes results.

These dataclasses are the schema: `deiii.data.config.load.load_config` merges YAML and ``key=value``
overrides into them and refuses what they do not name. A setting marked ``operational`` (workers,
devices, batch sizes) never enters a stage key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def opt(
    default: Any, help: str, *, choices: tuple = (), operational: bool = False, low: float | None = None
) -> Any:
    """A dataclass field with a help text, allowed values, a lowest value and its part in stage keys."""
    meta = {"help": help, "choices": choices, "operational": operational, "low": low}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta)


def result_params(section: Any) -> dict[str, Any]:
    """The settings of a section that change its result, for `deiii.data.cache.keys.stage_key`."""
    return {f.name: getattr(section, f.name) for f in fields(section) if not f.metadata["operational"]}


@dataclass
class SyntheticConfig:
    """The drawn corpus (only for ``corpus.name=synthetic``)."""

    task: str = opt("cues", "which question the labels ask", choices=("cues", "sync"))
    speakers: int = opt(24, "number of drawn speakers")
    clips_per_class: int = opt(3, "clips of each class by each speaker")
    seconds: float = opt(1.6, "length of a clip in s")
    size: int = opt(192, "height and width of the video in px")
    fps: float = opt(25.0, "frames per second")
    seed: int = opt(0, "everything drawn follows from it")


@dataclass
class CorpusConfig:
    """Where the clips come from."""

    name: str = opt(
        "synthetic",
        "corpus adapter",
        choices=("synthetic", "ravdess", "crema_d", "msp_improv", "table"),
    )
    root: str = opt("raw/synthetic", "folder with the corpus")
    table: str | None = opt(None, "CSV with path,speaker,label[,valence,arousal,dominance,fold] (table)")
    modality: str = opt(
        "audio-video", "which RAVDESS files", choices=("audio-video", "video-only", "audio-only")
    )
    channel: str = opt("speech", "which RAVDESS files", choices=("speech", "song", "both"))
    labels: str = opt("acted", "which CREMA-D labels", choices=("acted", "perceived"))
    clips_per_shard: int = opt(16, "most clips in one shard", low=1)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class FacesConfig:
    """Face detection, tracking and aligned crops."""

    detector: str = opt("haar", "face detector; haar needs no weights", choices=("haar", "yunet"))
    weights: str | None = opt(None, "path of the detector's weights; by name where empty", operational=True)
    size: int = opt(112, "height and width of the stored crop in px")
    align: str = opt(
        "similarity",
        "how crops follow the face: one box a clip, a moving box, or rotation too",
        choices=("static", "box", "similarity"),
    )
    pick: str = opt(
        "speaker",
        "which face: speaker weighs size, centre and persistence",
        choices=("speaker", "largest", "central", "first"),
    )
    margin: float = opt(0.25, "room around the face, as a share of its box")
    every: int = opt(8, "detect on every k-th frame and wherever tracking is unsure", low=1)
    detect_size: int = opt(320, "longer side in px at which detection runs", low=32)
    min_score: float = opt(0.6, "lowest detector score that counts (yunet)")
    max_gap: float = opt(0.3, "longest gap in s that is bridged by interpolation")
    min_valid: float = opt(0.1, "lowest share of valid frames for a clip to be usable")
    min_inside: float = opt(0.6, "lowest share of a crop inside the picture for its frame to be valid")
    smooth: float = opt(0.12, "time constant of the smoother in s; 0 turns it off")
    fps: float | None = opt(None, "frames per second of a regular grid to resample to; native where empty")


@dataclass
class FlowConfig:
    """Dense optical flow between consecutive crops."""

    method: str = opt("dis", "flow method; dis and tvl1 need no weights", choices=("dis", "raft", "tvl1"))
    model: str = opt("raft_small", "which RAFT", choices=("raft_small", "raft_large"))
    weights: str | None = opt(
        None,
        "RAFT weights: a path or a torchvision enum name; torchvision's default where empty",
        operational=True,
    )
    updates: int = opt(12, "RAFT's refinement steps", low=1)
    storage: str = opt("int8", "how flow is stored", choices=("int8", "float16"))
    device: str = opt("auto", "auto, cpu or cuda", operational=True)
    precision: str = opt(
        "float32",
        "type of RAFT's convolutions; the others are for GPUs",
        choices=("float32", "bfloat16", "float16"),
    )
    launch: str = opt(
        "eager",
        "how a GPU gets RAFT's work: by operation, fused by torch.compile, as a CUDA graph, or both",
        choices=("eager", "compile", "graph", "both"),
        operational=True,
    )
    batch: int = opt(0, "pairs a batch; 0 chooses from the device's free memory", operational=True, low=0)


@dataclass
class LogMelConfig:
    """Log-mel spectrogram."""

    sample_rate: int = opt(16000, "Hz; sound is resampled to it", low=1000)
    window_ms: float = opt(25.0, "length of the analysis window in ms")
    hop_ms: float = opt(10.0, "distance of neighbouring windows in ms")
    n_mels: int = opt(80, "number of mel bands", low=1)
    fmin: float = opt(50.0, "lowest frequency in Hz")
    fmax: float = opt(7600.0, "highest frequency in Hz")
    floor_db: float = opt(-80.0, "values further than this below the clip's loudest are raised to it, in dB")
    trim_db: float = opt(
        0.0, "silence this many dB below the loudest is cut at both ends; 0 keeps everything"
    )


@dataclass
class SplitConfig:
    """Who is trained on, chosen with and tested on. Speakers never cross."""

    protocol: str = opt("auto", "name of a protocol in data/corpora/protocols; auto is the corpus's own")
    fold: int = opt(0, "which fold is the test fold, counted from 0")
    val_share: float = opt(0.15, "share of the training speakers kept for validation")
    seed: int = opt(0, "chooses the validation speakers")


@dataclass
class LoaderConfig:
    """From caches to batches."""

    steps: int = opt(8, "video steps T sampled from a clip", low=1)
    stride: int = opt(2, "sampled frames lie on a grid of every k-th frame", low=1)
    sampling: str = opt(
        "segments",
        "where steps fall: one in each of T equal segments, or neighbours on the grid",
        choices=("segments", "contiguous"),
    )
    audio_steps: int = opt(160, "log-mel hops L given to the network", low=1)
    eval_audio_steps: int = opt(0, "log-mel hops given in validation and test; 0 is as in training", low=0)
    crop: int = opt(96, "height and width given to the network in px; random place in training")
    batch: int = opt(32, "clips a batch", low=1)
    residency: str = opt(
        "auto",
        "where the data live during training",
        choices=("auto", "stream", "ram", "device"),
        operational=True,
    )
    threads: int = opt(2, "threads that gather batches", operational=True, low=1)
    ahead: int = opt(3, "batches prepared ahead", operational=True, low=1)
    timeout: float = opt(
        300.0, "s without a batch after which the disk counts as stuck", operational=True, low=1
    )
    flip: float = opt(0.5, "chance of a horizontal flip (u of the flow is negated)")
    colour: float = opt(0.2, "strength of brightness, contrast and colour changes")
    spec_masks: int = opt(2, "SpecAugment masks along time and along frequency")
    time_shift: float = opt(0.0, "largest shift of sound against video in s")
    normalise: str = opt(
        "none",
        "mean and deviation of each mel band are taken out: no, per clip's mean alone, or per speaker "
        "(then the test speakers' unlabelled clips are used too)",
        choices=("none", "clip", "speaker"),
    )
    stretch: float = opt(0.0, "largest change of tempo in training, as a share")
    mel_shift: float = opt(0.0, "largest shift of the mel bands in training, in bands")
    mel_warp: float = opt(0.0, "largest stretching of the mel axis in training, as a share")
    gain_db: float = opt(0.0, "largest change of loudness in training, in dB")


@dataclass
class ModelConfig:
    """The DE-III network and the switches of its ablation."""

    width: int = opt(64, "feature width D", low=1)
    blocks: int = opt(2, "Conformer blocks N in each modality")
    ife_blocks: int = opt(2, "inter-modal blocks K")
    heads: int = opt(4, "attention heads", low=1)
    conv_kernel: int = opt(9, "kernel of the Conformer's depthwise convolution, in steps", low=1)
    channels: list[int] = opt([16, 32, 64], "channels of the frame and flow encoders' stages")
    audio_channels: list[int] = opt(
        [], "channels of a residual audio encoder's stem and stages; empty for two plain layers"
    )
    audio_deltas: bool = opt(False, "that encoder also sees how each mel band changes")
    grid: int = opt(3, "the encoders keep grid x grid spatial tokens", low=1)
    dropout: float = opt(0.1, "dropout")
    flow_scale: float = opt(0.5, "flow in px is multiplied by this before the encoder")
    video: bool = opt(True, "use frames")
    flow: bool = opt(True, "use optical flow")
    audio: bool = opt(True, "use sound")
    ov: str = opt("attention", "frame-flow fusion", choices=("attention", "concat"))
    conformer: bool = opt(True, "intra-modal Conformer encoders")
    ife: bool = opt(True, "inter-modal feature enhancement")
    modality_heads: bool = opt(True, "train the heads of each modality (L_V, L_A) beside the fused one")
    time_match: bool = opt(False, "learn too which sound goes with which frame (L_S); needs both modalities")
    attributes: list[str] = opt(
        [], "continuous labels to predict; empty for none", choices=("valence", "arousal", "dominance")
    )
    classes: bool = opt(True, "predict the classes")
    imagenet: bool = opt(False, "start the frame encoder from torchvision's ResNet-18 ImageNet weights")


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = opt(30, "most epochs", low=1)
    lr: float = opt(1e-3, "peak learning rate of AdamW", low=0)
    weight_decay: float = opt(0.05, "weight decay of AdamW")
    warmup: float = opt(0.1, "share of the steps in which the learning rate rises")
    clip_norm: float = opt(1.0, "largest gradient norm", low=0)
    patience: int = opt(10, "epochs without a better validation result before stopping", low=0)
    label_smoothing: float = opt(0.05, "label smoothing")
    class_weights: bool = opt(False, "weight classes by inverse frequency")
    modality_dropout: float = opt(0.1, "chance that one modality is hidden from a clip in training")
    w_video: float = opt(0.3, "weight of L_V")
    w_audio: float = opt(0.3, "weight of L_A")
    w_match: float = opt(0.5, "weight of L_S, where model.time_match is on")
    ema: float = opt(0.0, "decay of the weights' moving average; 0 turns it off")
    amp: str = opt("auto", "autocast to bfloat16", choices=("auto", "bfloat16", "off"))
    compile: bool = opt(False, "torch.compile the network", operational=True)
    device: str = opt("auto", "auto, cpu or cuda", operational=True)
    seed: int = opt(0, "initial weights, shuffling, augmentation and dropout")
    run: str = opt("runs/latest", "run folder", operational=True)
    monitor: str = opt(
        "auto", "validation figure that picks the epoch", choices=("auto", "uar", "ccc", "loss")
    )


@dataclass
class ClusterConfig:
    """The cluster that preprocessing starts; ``scheduler`` names one that runs already."""

    kind: str = opt(
        "local",
        "where workers are started: on this machine, as SLURM jobs or as Kubernetes pods",
        choices=("local", "slurm", "kubernetes"),
        operational=True,
    )
    adaptive: bool = opt(
        False, "workers come when there is work and go when there is none, workers= at most", operational=True
    )
    minimum: int = opt(0, "fewest workers of an adaptive cluster", operational=True, low=0)
    gpu: bool = opt(False, "each job or pod has a GPU, which does the flow", operational=True)
    memory_gb: float = opt(8.0, "memory of a worker in GiB", operational=True, low=0.5)
    patience: float = opt(3600.0, "s to wait for the first job or pod", operational=True, low=1)
    queue: str | None = opt(None, "SLURM partition", operational=True)
    account: str | None = opt(None, "SLURM account", operational=True)
    walltime: str = opt("04:00:00", "SLURM time limit of a job, hh:mm:ss", operational=True)
    per_job: int = opt(1, "workers, of a core each, in one SLURM job", operational=True, low=1)
    directives: list[str] = opt([], "more #SBATCH options, e.g. --gres=gpu:1", operational=True)
    prologue: list[str] = opt(
        [], "shell lines at the start of a SLURM job, e.g. module load", operational=True
    )
    interface: str | None = opt(None, "network interface between SLURM nodes, e.g. ib0", operational=True)
    scratch: str | None = opt(None, "local folder of a SLURM node for Dask's own files", operational=True)
    logs: str = opt("slurm", "folder for the jobs' output", operational=True)
    namespace: str = opt("default", "Kubernetes namespace", operational=True)
    image: str | None = opt(None, "container image with this project, on its Python path", operational=True)
    claim: str | None = opt(None, "PersistentVolumeClaim that holds corpus and caches", operational=True)
    mount: str = opt("/data", "where the claim is mounted, in pods and here", operational=True)


@dataclass
class Config:
    """All settings."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    mix: list[str] = opt([], "YAML files of further corpora to train and test with, classes joined by name")
    cache: str = opt("cache", "folder of the feature caches", operational=True)
    stages: list[str] = opt(
        ["faces", "flow", "logmel"],
        "stages to compute",
        choices=("faces", "flow", "logmel"),
        operational=True,
    )
    faces: FacesConfig = field(default_factory=FacesConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    logmel: LogMelConfig = field(default_factory=LogMelConfig)
    workers: int = opt(0, "worker processes; 0 is one for each core", operational=True, low=0)
    scheduler: str | None = opt(
        None, "address of a running Dask scheduler; a local one where empty", operational=True
    )
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    gpus: int = opt(-1, "GPUs for flow; -1 finds out", operational=True)
    dashboard: str = opt(
        "127.0.0.1:0", "address of Dask's dashboard; port 0 picks a free one", operational=True
    )
    max_failed: float = opt(
        0.1, "largest share of failed clips before the exit status is non-zero", operational=True, low=0
    )
    clip_timeout: float = opt(600.0, "s after which one clip counts as hanging", operational=True, low=1)
    clip_memory_gb: float = opt(8.0, "memory in GiB that one clip may take", operational=True, low=0.1)
    retry: bool = opt(
        False,
        "make shards anew in which a clip ended as timed_out, out_of_memory or crashed_decoder",
        operational=True,
    )
    check: str = opt(
        "bytes",
        "what is looked at before a finished shard is reused or trained on: every byte, or its size alone",
        choices=("bytes", "sizes"),
        operational=True,
    )
    split: SplitConfig = field(default_factory=SplitConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
