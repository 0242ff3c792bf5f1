"""Settings of network and training; `deiii.data.config.schema` joins them with the others."""

from __future__ import annotations

from dataclasses import dataclass

from deiii.data.config.networks import DEFAULT, NETWORKS
from deiii.data.config.plugins import NETWORKS as NETWORK_GROUP
from deiii.data.config.schema_fields import MOST_SEED, opt


@dataclass
class ModelConfig:
    """The network: DE-III with the switches of its ablation, or a peer to compare it with."""

    name: str = opt(
        DEFAULT,
        "Network: DE-III, or a peer that reads the same inputs and has the same outputs.",
        choices=tuple(NETWORKS),
        group=NETWORK_GROUP,
    )
    width: int = opt(64, "Feature width D of the network.", low=1, high=16_384)
    blocks: int = opt(2, "Number N of Conformer blocks in each modality.", low=0, high=1000)
    ife_blocks: int = opt(2, "Number K of inter-modal feature enhancement blocks.", low=0, high=1000)
    heads: int = opt(4, "Number of attention heads; it must divide width.", low=1, high=1024)
    conv_kernel: int = opt(9, "Kernel of the Conformer's depthwise convolution, in steps.", low=1, high=1001)
    channels: list[int] = opt(
        [16, 32, 64],
        "Channels of the convolutional stages of the frame and flow encoders.",
        low=1,
        high=16_384,
        nonempty=True,
    )
    audio_channels: list[int] = opt(
        [],
        "Channels of a residual audio encoder, its stem first; if empty, two convolutions are used instead.",
        low=1,
        high=16_384,
    )
    audio_deltas: bool = opt(
        False, "Give the residual audio encoder the change of each mel band over time too."
    )
    grid: int = opt(3, "The visual encoders keep grid x grid spatial tokens of each step.", low=1, high=64)
    dropout: float = opt(0.1, "Dropout rate of the network.", low=0, below=1)
    flow_scale: float = opt(
        0.5, "Factor that flow in px is multiplied by before its encoder.", above=0, high=1000
    )
    video: bool = opt(
        True,
        "Use video frames. A list names all video inputs: [frames,flow,appearance] sets video, flow "
        "and extra.",
    )
    flow: bool = opt(True, "Use optical flow.")
    audio: bool = opt(
        True, "Use log-mel. A list names all audio inputs: [logmel,speech] sets audio and extra."
    )
    ov: str = opt(
        "attention",
        "Fusion of frames and flow: attention between them, or concatenation.",
        choices=("attention", "concat"),
    )
    conformer: bool = opt(True, "Use the intra-modal Conformer encoders.")
    ife: bool = opt(True, "Use inter-modal feature enhancement.")
    modality_heads: bool = opt(
        True, "Train a head of each modality (losses L_V and L_A) beside the head of the fused features."
    )
    time_match: bool = opt(
        False,
        "Also learn which audio belongs to which frame (loss L_S); it needs both modalities.",
    )
    attributes: list[str] = opt(
        [], "Continuous labels to predict; empty for none.", choices=("valence", "arousal", "dominance")
    )
    classes: bool = opt(True, "Predict the classes.")
    extra: list[str] = opt(
        [],
        "Further stages that the network reads beside, or instead of, video frames, flow and audio; they "
        "must be in stages too.",
    )
    join: str = opt(
        "separate",
        "Where the rows of the stages in model.extra enter the network. separate: through a Conformer of "
        "their own, whose steps join their modality before IFE; conformer: through the Conformer of their "
        "modality, in the order of the media clock; fusion: as conformer, but video rows are tokens beside "
        "the frames in OV; pooled: in the heads alone, as mean and standard deviation over the clip of every "
        "feature of every layer.",
        choices=("separate", "conformer", "fusion", "pooled"),
    )
    balance: float = opt(
        0.0,
        "With model.join=pooled, how much weight stages with few features get beside those with many: the "
        "total weight of a stage of F features is proportional to F to the power of 1 - balance. With 0 "
        "every feature has the same weight, with 1 every stage.",
        low=0,
        high=1,
    )
    within_logmel: bool = opt(
        False,
        "Read rows of the audio stages in model.extra only within the times of log-mel, also where "
        "model.audio is off: logmel.trim_db then leaves out silence at both ends of them too.",
    )
    standardise: bool = opt(
        False,
        "Standardise every feature of the stages in model.extra by its mean and standard deviation over the "
        "training clips; with model.join=pooled also the pooled features.",
    )
    pool: str = opt(
        "attention",
        "Pooling over time in the heads: a mean with learned weights, or mean and standard deviation.",
        choices=("attention", "statistics"),
    )
    head: str = opt(
        "hidden",
        "What follows the pooling: a hidden layer, or nothing but the linear outputs.",
        choices=("hidden", "linear"),
    )
    head_dropout: float | None = opt(
        None, "Dropout rate before the outputs of the heads; if empty, model.dropout.", low=0, below=1
    )
    encoders: list[str] = opt(
        [],
        "Encoders of installed packages to use instead of the network's own, each as stage:encoder, e.g. "
        "faces:patches.",
    )
    imagenet: bool = opt(
        False, "Use torchvision's ResNet-18 with ImageNet weights as the start of the frame encoder."
    )
    imagenet_weights: str | None = opt(
        None,
        "Path of the ImageNet weights of ResNet-18; if empty, resnet18-f37072fd.pth is taken from "
        "DEIII_WEIGHTS_DIR, or downloaded once.",
        path=True,
    )
    batch_axis: bool = opt(
        False,
        "Let the Conformers of model.name=vavl run along the clips of the batch, as its published code does, "
        "to measure the effect; the prediction of a clip then depends on the others in its batch.",
    )


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = opt(30, "Largest number of epochs.", low=1, high=1_000_000)
    lr: float = opt(1e-3, "Peak learning rate.", above=0, high=10)
    trunk_lr: float = opt(1.0, "Learning rate of all but the heads, as a multiple of lr.", low=0, high=100)
    weight_decay: float = opt(0.05, "Weight decay of the optimiser.", low=0, high=10)
    optimizer: str = opt(
        "adamw",
        "Optimiser: adamw, or sgd with a Nesterov momentum of 0.9, which trains a linear head almost like "
        "logistic regression. discriminant trains nothing: it computes linear heads on pooled features "
        "(model.join=pooled, model.head=linear) by linear discriminant analysis, in one epoch.",
        choices=("adamw", "sgd", "discriminant"),
    )
    shrinkage: float = opt(
        0.3,
        "With train.optimizer=discriminant, the share of a multiple of the identity in the covariance within "
        "classes. In trials on training speakers, 0.3 to 0.5 gave the best scores.",
        above=0,
        high=1,
    )
    warmup: float = opt(
        0.1,
        "Share of all steps in which the learning rate rises; then it falls to 1 % of its peak.",
        low=0,
        high=1,
    )
    clip_norm: float = opt(
        1.0, "Norm to which larger gradients are scaled down; 0 turns it off.", low=0, high=1e9
    )
    patience: int = opt(
        10,
        "Number of epochs without a better validation score after which training stops; 0 turns it off.",
        low=0,
        high=1_000_000,
    )
    label_smoothing: float = opt(0.05, "Label smoothing of the class loss.", low=0, below=1)
    class_weights: bool = opt(False, "Weight classes by their inverse frequency.")
    modality_dropout: float = opt(
        0.1,
        "Probability that one input of a clip, or all inputs of one modality, are hidden in training.",
        low=0,
        high=1,
    )
    w_video: float = opt(0.3, "Weight of the video head's loss L_V.", low=0, high=1000)
    w_audio: float = opt(0.3, "Weight of the audio head's loss L_A.", low=0, high=1000)
    w_match: float = opt(
        0.5, "Weight of the matching loss L_S (used if model.time_match is on).", low=0, high=1000
    )
    ema: float = opt(
        0.0,
        "Decay per step of the moving average of the weights, which is then scored; 0 turns it off.",
        low=0,
        below=1,
    )
    amp: str = opt(
        "auto",
        "Autocast to bfloat16: on, off, or auto for GPUs that compute it without emulation.",
        choices=("auto", "bfloat16", "off"),
    )
    accumulate: int = opt(
        1,
        "Number of equal parts of a batch that are computed one after the other, their gradients added up: "
        "takes less memory, and more time. The gradient is that of the whole batch. Encoders with batch "
        "normalisation are still computed for the whole batch at once.",
        low=1,
        high=65_536,
    )
    launch: str = opt(
        "auto",
        "How training steps are launched: eager (one kernel after the other), compile (torch.compile), graph "
        "(a CUDA graph: a whole step at once), or auto for a graph on one NVIDIA GPU and eager elsewhere.",
        choices=("auto", "eager", "compile", "graph"),
        operational=True,
    )
    compile: bool = opt(
        False,
        "Compile the network with torch.compile; with train.launch=graph the compiled step is recorded, "
        "otherwise the same as train.launch=compile.",
        operational=True,
    )
    device: str = opt(
        "auto", "Device to train on: cpu, cuda, or auto for a GPU if there is one.", operational=True
    )
    seed: int = opt(
        0, "Seed of the initial weights, shuffling, augmentation and dropout.", low=0, high=MOST_SEED
    )
    start: str | None = opt(
        None,
        "Run folder of the network from which this training starts; if empty, weights are random at first. "
        "Weights that both networks have are copied; classes are matched by name.",
        path=True,
    )
    run: str = opt("runs/latest", "Run folder to write.", operational=True, path=True)
    log: list[str] = opt(
        ["tensorboard"],
        "Where the figures of each epoch are recorded beside metrics.csv: tensorboard, in the run folder; "
        "wandb and mlflow (extras of deiii), in local files unless environment variables name a server.",
        choices=("tensorboard", "wandb", "mlflow"),
        operational=True,
    )
    monitor: str = opt(
        "auto",
        "Validation score that chooses the best epoch. auto is uar if classes are predicted, else ccc; last "
        "uses the last epoch instead, for validation sets that are too small to choose an epoch by.",
        choices=("auto", "uar", "ccc", "loss", "last"),
    )
