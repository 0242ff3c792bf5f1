"""Settings of corpora and preprocessing; `deiii.data.config.schema` joins them with the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from deiii.data.config.plugins import CORPORA
from deiii.data.config.schema_fields import MOST_SEED, opt


@dataclass
class SyntheticConfig:
    """The synthetic corpus (used if ``corpus.name=synthetic``)."""

    task: str = opt(
        "cues",
        "What the labels state. cues: which combination of three cues a clip shows; sync: whether mouth and "
        "audio are synchronous; order: which of two syllables comes first; binding: which of two colours of "
        "freckles trembles; told: one bit that audio and, faintly, frames show.",
        choices=("cues", "sync", "order", "binding", "told"),
    )
    speakers: int = opt(24, "Number of synthetic speakers.", low=1, high=9999)
    clips_per_class: int = opt(3, "Number of clips of each class by each speaker.", low=1, high=9999)
    seconds: float = opt(1.6, "Length of a clip in s; at least 1.28 for task=order.", low=0.8, high=60)
    size: int = opt(192, "Height and width of the video in px, an even number.", low=64, high=2048)
    fps: float = opt(25.0, "Frames per second of the video.", low=10, high=120)
    seed: int = opt(
        0, "Seed of all speakers and clips; another seed gives another corpus.", low=0, high=MOST_SEED
    )


USUAL_TABLE = "clips.csv"  # in the root of a corpus


@dataclass
class CorpusConfig:
    """The corpus to preprocess and train on."""

    name: str = opt(
        "synthetic",
        "Adapter that reads the corpus.",
        choices=("synthetic", "ravdess", "crema_d", "msp_improv", "iemocap", "table", "pattern"),
        group=CORPORA,
    )
    root: str = opt("raw/synthetic", "Folder that holds the corpus.", path=True)
    table: str | None = opt(
        None,
        "Path of the CSV file with the columns path, speaker, label and optionally valence, arousal, "
        "dominance, fold, sex; root/clips.csv if empty. Used if corpus.name=table.",
        path=True,
    )
    title: str = opt("corpus", "Name of the corpus in caches and reports. Used if corpus.name=pattern.")
    pattern: str | None = opt(
        None,
        "Regular expression with the groups speaker, label and optionally sex that is searched for in each "
        "recording's path without its suffix. Used if corpus.name=pattern.",
    )
    codes: dict[str, str | None] = opt(
        {},
        "The class of each label in a file name, e.g. {an: angry}; null leaves such recordings out. Used if "
        "corpus.name=pattern.",
    )
    modality: str = opt(
        "audio-video",
        "Kind of RAVDESS files to use.",
        choices=("audio-video", "video-only", "audio-only"),
    )
    channel: str = opt("speech", "Vocal channel of the RAVDESS files.", choices=("speech", "song", "both"))
    labels: str = opt(
        "acted",
        "CREMA-D labels: the emotion that the actor was asked for, or the votes of raters who heard the "
        "voice, saw the face, or both. perceived is the old name of multimodal.",
        choices=("acted", "voice", "face", "multimodal", "perceived"),
    )
    classes: dict[str, str | None] = opt(
        {},
        "Classes to join or to drop: a class and its new name, e.g. {calm: neutral}; null drops it. Classes "
        "that are not named stay. After a change, preprocessing need not run again.",
    )
    corrupt: str = opt(
        "",
        "Corruption of every recording before the stages read it: noise=10 (white noise, dB SNR), "
        "compress=40 (CRF of H.264) or speed=0.9 (factor of tempo and pitch). The features are stored in a "
        "folder of their own.",
    )
    clips_per_shard: int = opt(
        16,
        "Largest number of clips in one shard; larger shards mean fewer files and fewer tasks.",
        low=1,
        high=100_000,
    )
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class FacesConfig:
    """Face detection, tracking and aligned crops."""

    detector: str = opt(
        "haar", "Face detector; haar needs no weights, yunet finds more faces.", choices=("haar", "yunet")
    )
    weights: str | None = opt(
        None,
        "Path of the detector's weights; if empty, they are found or downloaded by their name.",
        operational=True,
        path=True,
    )
    size: int = opt(112, "Height and width of the stored crop in px.", low=16, high=1024)
    align: str = opt(
        "similarity",
        "How crops follow the face: static uses one box for the clip, box moves and scales with the face, "
        "similarity also rotates with it.",
        choices=("static", "box", "similarity"),
    )
    pick: str = opt(
        "speaker",
        "Which face to crop if there are several: speaker weighs size, distance from the centre and "
        "duration together, active takes the face whose mouth follows the audio, the others use one "
        "criterion.",
        choices=("speaker", "largest", "central", "first", "active"),
    )
    margin: float = opt(
        0.25, "Margin around the face on each side, as a share of the face's box.", low=0, high=2
    )
    every: int = opt(
        8,
        "Number of frames between two detections; the face is tracked in between. Larger values are faster. "
        "The detector also runs where tracking is uncertain.",
        low=1,
        high=1000,
    )
    detect_size: int = opt(
        320,
        "Longer side in px of the frame that the detector searches; larger values find smaller faces and are "
        "slower.",
        low=32,
        high=4096,
    )
    min_score: float = opt(
        0.6, "Lowest score of a detection that counts, from 0 to 1 (yunet only).", low=0, high=1
    )
    max_gap: float = opt(
        0.3, "Longest gap in s without a face that is filled by interpolation.", low=0, high=60
    )
    min_valid: float = opt(
        0.1, "Lowest share of frames with a valid face for a clip to be usable.", low=0, high=1
    )
    min_inside: float = opt(
        0.6,
        "Lowest share of a crop that must lie inside the video frame for the crop to be valid.",
        low=0,
        high=1,
    )
    smooth: float = opt(
        0.12,
        "Time constant in s of the landmark smoother; larger values give steadier crops that follow more "
        "slowly, 0 turns it off.",
        low=0,
        high=10,
    )
    fps: float | None = opt(
        None,
        "Frames per second of a regular grid to resample to; if empty, every native frame is kept.",
        low=1,
        high=1000,
    )
    decoder: str = opt(
        "cpu",
        "Device that decodes videos. cpu: the processor; gpu: an NVIDIA GPU for videos in H.264 or H.265; "
        "auto: a GPU for those of these videos that have at least 1280x720 px, if a GPU works. "
        "Intact videos give the same frames.",
        choices=("cpu", "auto", "gpu"),
        operational=True,
    )


@dataclass
class FlowConfig:
    """Dense optical flow between consecutive crops."""

    method: str = opt(
        "dis", "Optical flow method; dis and tvl1 need no weights.", choices=("dis", "raft", "tvl1")
    )
    model: str = opt("raft_small", "RAFT network.", choices=("raft_small", "raft_large"))
    weights: str | None = opt(
        None,
        "RAFT weights: a path or the name of a torchvision weights enum; torchvision's default if empty.",
        operational=True,
        path=True,
    )
    updates: int = opt(
        12,
        "Number of RAFT's refinement steps; more are slower and more accurate up to about 12.",
        low=1,
        high=100,
    )
    storage: str = opt(
        "int8",
        "Stored type of flow: int8 with a scale for each frame, or float16 at twice the size.",
        choices=("int8", "float16"),
    )
    device: str = opt(
        "auto", "Device that computes RAFT: cpu, cuda, or auto for a GPU if there is one.", operational=True
    )
    precision: str = opt(
        "auto",
        "Type of RAFT's convolutions; auto is float16 on a GPU that is faster in it, float32 elsewhere. "
        "The stage key holds the type itself, so caches of different types have different keys.",
        choices=("auto", "float32", "float16", "bfloat16"),
    )
    launch: str = opt(
        "auto",
        "How RAFT's operations reach a GPU: one by one, or fused by torch.compile, which is faster after "
        "some seconds of compilation; auto compiles where flow of at least 1,500 clips is to be computed.",
        choices=("auto", "eager", "compile"),
        operational=True,
    )
    batch: int = opt(
        0,
        "Frame pairs in one batch; larger batches use more memory. 0 chooses from the device's free memory.",
        operational=True,
        low=0,
        high=65_536,
    )


@dataclass
class LogMelConfig:
    """Log-mel spectrogram."""

    sample_rate: int = opt(16000, "Sample rate in Hz that audio is resampled to.", low=1000, high=192_000)
    window_ms: float = opt(25.0, "Length of the analysis window in ms.", low=1, high=1000)
    hop_ms: float = opt(
        10.0, "Hop between neighbouring windows in ms; smaller hops give more rows.", low=1, high=1000
    )
    n_mels: int = opt(80, "Number of mel bands.", low=1, high=512)
    fmin: float = opt(50.0, "Lowest frequency of the mel bands in Hz.", low=0, high=96_000)
    fmax: float = opt(7600.0, "Highest frequency of the mel bands in Hz.", low=1, high=96_000)
    floor_db: float = opt(
        -80.0,
        "Level in dB, relative to the loudest value of the clip, to which lower values are raised.",
        low=-200,
        high=-1,
    )
    trim_db: float = opt(
        0.0,
        "Silence at both ends that is more than this many dB below the loudest hop is cut off; 0 keeps it.",
        low=0,
        high=200,
    )


@dataclass
class ClusterConfig:
    """The cluster that preprocessing starts. To use a running one, set ``scheduler`` instead."""

    kind: str = opt(
        "local",
        "Where workers are started: as processes of this machine, SLURM jobs or Kubernetes pods.",
        choices=("local", "slurm", "kubernetes"),
        operational=True,
    )
    adaptive: bool = opt(
        False,
        "Start workers when there is work, up to workers=, and stop them when there is none.",
        operational=True,
    )
    minimum: int = opt(
        0,
        "Number of workers that an adaptive cluster keeps without work.",
        operational=True,
        low=0,
        high=100_000,
    )
    gpu: bool = opt(
        False,
        "Compute the stages that can use a GPU in jobs or pods with one GPU each, after jobs or pods without "
        "a GPU have computed the other stages.",
        operational=True,
    )
    gpu_workers: int = opt(
        0,
        "Largest number of workers with a GPU; 0 for as many as workers=.",
        operational=True,
        low=0,
        high=100_000,
    )
    memory_gb: float = opt(8.0, "Memory of a worker in GiB.", operational=True, low=0.5, high=100_000)
    patience: float = opt(
        3600.0,
        "Longest time in s to wait for the first job or pod to start.",
        operational=True,
        low=1,
        high=1e7,
    )
    queue: str | None = opt(None, "SLURM partition.", operational=True)
    account: str | None = opt(None, "SLURM account.", operational=True)
    walltime: str = opt("04:00:00", "SLURM time limit of a job, as hh:mm:ss.", operational=True)
    per_job: int = opt(
        1, "Number of workers in one SLURM job; each has one core.", operational=True, low=1, high=1024
    )
    directives: list[str] = opt([], "Further #SBATCH options, e.g. --constraint=avx2.", operational=True)
    gpu_directives: list[str] = opt(
        [], "Further #SBATCH options of jobs with a GPU, e.g. --gres=gpu:1.", operational=True
    )
    prologue: list[str] = opt(
        [], "Shell lines to run at the start of a SLURM job, e.g. module load.", operational=True
    )
    interface: str | None = opt(None, "Network interface between SLURM nodes, e.g. ib0.", operational=True)
    scratch: str | None = opt(
        None,
        "Local folder of a SLURM node for Dask's temporary files. The node replaces variables in it, such as "
        "$TMPDIR.",
        operational=True,
    )
    logs: str = opt("slurm", "Folder for the output of SLURM jobs.", operational=True, path=True)
    namespace: str = opt("default", "Kubernetes namespace.", operational=True)
    image: str | None = opt(
        None, "Container image in which deiii is installed (Kubernetes).", operational=True
    )
    claim: str | None = opt(
        None, "PersistentVolumeClaim that holds the corpus and the caches (Kubernetes).", operational=True
    )
    mount: str = opt("/data", "Path where the claim is mounted, in pods and here.", operational=True)
