"""When settings have an effect: `RULES` is the one list of settings that need others.

A setting that the rules do not name always has an effect, or its effect depends on the data or the machine.

>>> [rule.remedy for rule in RULES if rule.names("faces.min_score")]
['the stage faces, which stages= lacks', 'faces.detector=yunet']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deiii.data.config.networks import DEFAULT, NETWORKS
from deiii.data.config.plugins import STAGES, installed, load_plugin
from deiii.data.config.schema import Config
from deiii.data.config.streams import EXTRA

WITHOUT_FACES = ("logmel", "speech", "speech2")  # stages that do not read face crops
ENCODERS = ("speech", "speech2", "appearance")


@dataclass(frozen=True)
class Rule:
    """When some settings have an effect.

    Attributes:
        keys: dotted names; one that ends with a point stands for a whole section.
        counts: whether they have an effect under a configuration.
        remedy: the settings that they need, in words.
    """

    keys: tuple[str, ...]
    counts: Callable[[Config], bool]
    remedy: str

    def names(self, key: str) -> bool:
        """Return whether the rule is about a setting."""
        return key in self.keys or any(k.endswith(".") and key.startswith(k) for k in self.keys)


def _of_corpus(*names: str) -> Callable[[Config], bool]:
    """Return the test whether the corpus is one of these, or of a package, which may read every setting."""
    known = ("synthetic", "ravdess", "crema_d", "msp_improv", "iemocap", "table", "pattern")
    return lambda c: c.corpus.name in names or c.corpus.name not in known


def _has_faces(c: Config) -> bool:
    return any(stage not in WITHOUT_FACES for stage in c.stages)


def _of_stage(name: str) -> Callable[[Config], bool]:
    return lambda c: name in c.stages or _is_upstream(name, c.stages)


def _is_upstream(name: str, stages: Iterable[str]) -> bool:
    """Return whether a stage of another package reads the stage."""
    return any(load_plugin(STAGES, s).upstream == name for s in stages if s in installed(STAGES))


def _raft(c: Config) -> bool:
    return c.flow.method == "raft"


def _known(c: Config) -> bool:
    """Return whether the network is one of deiii's; one of another package may read every setting."""
    return c.model.name in NETWORKS


def _crops(c: Config) -> bool:
    return c.model.video or c.model.flow or not _known(c)


def _frames(c: Config) -> bool:
    return c.model.video or not _known(c)


def _flow(c: Config) -> bool:
    return c.model.flow or not _known(c)


def _logmel(c: Config) -> bool:
    return c.model.audio or not _known(c)


def _extra(c: Config) -> bool:
    return bool(c.model.extra) or not _known(c)


def _extra_of(modality: str, c: Config) -> bool:
    """Return whether ``model.extra`` names a stage of the modality; one of another package may be of it."""
    return any(EXTRA.get(name, modality) == modality for name in c.model.extra)


def _video_steps(c: Config) -> bool:
    return _crops(c) or _extra_of("video", c)


def _audio_rows(c: Config) -> bool:
    return _logmel(c) or _extra_of("audio", c)


def _modalities(c: Config) -> bool:
    return _video_steps(c) and _audio_rows(c)


def _inputs(c: Config) -> bool:
    """Return whether the network reads several inputs."""
    m = c.model
    return m.video + m.flow + m.audio + len(m.extra) > 1 or not _known(c)


def _steps(c: Config) -> bool:
    """Return whether anything enters the network over time, and not pooled."""
    return c.model.join != "pooled" or c.model.video or c.model.flow or c.model.audio or not _known(c)


def _conformer(c: Config) -> bool:
    return (c.model.conformer and _steps(c)) or c.model.name != DEFAULT


def _both_over_time(c: Config) -> bool:
    pooled = c.model.join == "pooled" and c.model.name == DEFAULT
    return (_crops(c) and _logmel(c)) if pooled else _modalities(c)


def _modality_heads(c: Config) -> bool:
    entry = NETWORKS.get(c.model.name)
    if entry is None:
        return True
    return "modality_heads" in entry.reads and c.model.modality_heads and _modalities(c)


def _own_encoders(c: Config) -> bool:
    """Return whether one of deiii's convolutional encoders may read crops."""
    return c.model.flow or (c.model.video and not c.model.imagenet) or not _known(c)


def _tokens(c: Config) -> bool:
    """Return whether frames, or rows of pretrained encoders in their place, are fused with flow."""
    return c.model.video or (c.model.join == "fusion" and _extra_of("video", c))


def _fuses_flow(c: Config) -> bool:
    return (c.model.flow and _tokens(c)) or c.model.name != DEFAULT


def _standardised_here(c: Config) -> bool:
    return _extra(c) and (c.model.join == "pooled" or c.loader.normalise != "speaker")


def _normalised(c: Config) -> bool:
    return _logmel(c) or (c.loader.normalise == "speaker" and _extra(c))


def _encoder_rules(stage: str) -> list[Rule]:
    """Return the rules of a stage of a frozen encoder."""

    def reads_onnx(c: Config) -> bool:
        encoder = getattr(c, stage).encoder
        return encoder == "onnx" or encoder.endswith(".onnx")

    rules = [
        Rule((f"{stage}.",), _of_stage(stage), f"the stage {stage}, which stages= lacks"),
        Rule((f"{stage}.outputs",), reads_onnx, "an ONNX file in " + f"{stage}.encoder"),
        Rule(
            (f"{stage}.revision",),
            lambda c: "/" in getattr(c, stage).encoder,
            f"an encoder of the Hugging Face Hub in {stage}.encoder",
        ),
    ]
    if stage == "appearance":
        rules.append(Rule(("appearance.pixels",), reads_onnx, "an ONNX file in appearance.encoder"))
    return rules


def _on_slurm(c: Config) -> bool:
    return c.cluster.kind == "slurm"


def _on_kubernetes(c: Config) -> bool:
    return c.cluster.kind == "kubernetes"


def _elsewhere(c: Config) -> bool:
    return c.cluster.kind != "local"


# Settings of training that weights computed in closed form do not depend on.
STEPS = ("lr", "trunk_lr", "weight_decay", "warmup", "clip_norm", "label_smoothing", "modality_dropout",
         "ema", "accumulate", "w_video", "w_audio")  # fmt: skip
SLURM = ("queue", "account", "walltime", "per_job", "directives", "prologue", "interface", "scratch", "logs")
RULES = (
    Rule(("corpus.synthetic.",), _of_corpus("synthetic"), "corpus.name=synthetic"),
    Rule(("corpus.table",), _of_corpus("table"), "corpus.name=table"),
    Rule(("corpus.title", "corpus.pattern", "corpus.codes"), _of_corpus("pattern"), "corpus.name=pattern"),
    Rule(("corpus.modality", "corpus.channel"), _of_corpus("ravdess"), "corpus.name=ravdess"),
    Rule(("faces.",), _has_faces, "the stage faces, which stages= lacks"),
    Rule(("faces.min_score",), lambda c: c.faces.detector == "yunet", "faces.detector=yunet"),
    Rule(("flow.",), _of_stage("flow"), "the stage flow, which stages= lacks"),
    Rule(
        tuple(f"flow.{n}" for n in ("model", "weights", "updates", "device", "precision", "launch", "batch")),
        _raft,
        "flow.method=raft",
    ),
    Rule(("flow.launch",), lambda c: c.flow.device != "cpu", "a GPU, and flow.device=cpu uses none"),
    Rule(("logmel.",), _of_stage("logmel"), "the stage logmel, which stages= lacks"),
    *(rule for stage in ENCODERS for rule in _encoder_rules(stage)),
    Rule(("workers", "dashboard"), lambda c: not c.scheduler,
         "clusters that deiii starts, and scheduler= names another"),
    Rule(tuple(f"cluster.{name}" for name in SLURM), _on_slurm, "cluster.kind=slurm"),
    Rule(("cluster.gpu_directives",), lambda c: _on_slurm(c) and c.cluster.gpu,
         "cluster.kind=slurm with cluster.gpu=true"),
    Rule(tuple(f"cluster.{name}" for name in ("namespace", "image", "claim", "mount")), _on_kubernetes,
         "cluster.kind=kubernetes"),
    Rule(("cluster.gpu", "cluster.memory_gb", "cluster.patience"), _elsewhere,
         "cluster.kind=slurm or kubernetes"),
    Rule(("cluster.gpu_workers",), lambda c: _elsewhere(c) and c.cluster.gpu, "cluster.gpu=true"),
    Rule(("cluster.minimum",), lambda c: c.cluster.adaptive, "cluster.adaptive=true"),
    Rule(tuple(f"loader.{n}" for n in ("crop", "flip", "zoom", "rotate", "erase")), _crops,
         "model.video or model.flow"),
    Rule(("loader.colour", "loader.grey"), _frames, "model.video=true"),
    Rule(("loader.flow_per_second", "loader.flow_frames", "model.flow_scale"), _flow, "model.flow=true"),
    Rule(("loader.flow_join",), lambda c: _flow(c) and c.loader.flow_frames > 1,
         "model.flow=true with loader.flow_frames above 1"),
    Rule(("loader.steps", "loader.stride", "loader.sampling"), _video_steps, "video inputs"),
    Rule(("loader.audio_steps", "loader.eval_audio_steps"), _audio_rows, "audio inputs"),
    Rule(tuple(f"loader.{n}" for n in ("spec_masks", "stretch", "mel_shift", "mel_warp", "gain_db")), _logmel,
         "model.audio=true (log-mel)"),
    Rule(("loader.time_shift",), _modalities, "networks that read audio and video"),
    Rule(("loader.normalise",), _normalised, "model.audio=true (log-mel), and speaker for model.extra too"),
    Rule(("model.blocks", "model.conv_kernel"), _conformer, "model.conformer=true and inputs over time"),
    Rule(("model.heads", "model.pool"), _steps, "inputs over time; all enter pooled (model.join=pooled)"),
    Rule(("model.ife",), lambda c: _both_over_time(c) or c.model.name != DEFAULT,
         "networks that read audio and video over time"),
    Rule(("model.ife_blocks",), lambda c: (c.model.ife and _both_over_time(c)) or c.model.name != DEFAULT,
         "model.ife=true and networks that read audio and video over time"),
    Rule(("model.ov",), _fuses_flow, "model.flow=true beside video frames"),
    Rule(("model.channels",), _own_encoders, "video frames without model.imagenet, or flow"),
    Rule(("model.grid",), _crops, "model.video or model.flow"),
    Rule(("model.audio_channels",), _logmel, "model.audio=true (log-mel)"),
    Rule(("model.audio_deltas",), lambda c: _logmel(c) and bool(c.model.audio_channels),
         "model.audio=true with model.audio_channels"),
    Rule(("model.join",), _extra, "the stages in model.extra, which is empty"),
    Rule(("model.within_logmel",), lambda c: _extra_of("audio", c) or not _known(c),
         "audio stages in model.extra"),
    Rule(("model.standardise",), _standardised_here,
         "stages in model.extra; loader.normalise=speaker standardises their rows already unless "
         "model.join=pooled"),
    Rule(("model.imagenet",), _frames, "model.video=true"),
    Rule(("model.imagenet_weights",), lambda c: _frames(c) and c.model.imagenet, "model.imagenet=true"),
    Rule(("model.time_match",), lambda c: (_crops(c) or _tokens(c)) and _logmel(c),
         "networks that read log-mel beside video frames or flow"),
    Rule(("model.modality_heads",), lambda c: _modalities(c) or not _known(c),
         "networks that read audio and video"),
    Rule(("mix_weights", "mix_test"), lambda c: bool(c.mix), "the corpora in mix, which is empty"),
    Rule(("train.label_smoothing", "train.class_weights"), lambda c: c.model.classes, "model.classes=true"),
    Rule(("train.modality_dropout",), _inputs, "networks that read several inputs"),
    Rule(("train.w_video", "train.w_audio"), _modality_heads,
         "model.modality_heads=true and networks that have such heads and read audio and video"),
    Rule(("train.w_match",), lambda c: c.model.time_match or not _known(c), "model.time_match=true"),
    Rule(("train.shrinkage",), lambda c: c.train.optimizer == "discriminant", "train.optimizer=discriminant"),
    Rule((*(f"train.{n}" for n in STEPS), "model.dropout", "model.head_dropout"),
         lambda c: c.train.optimizer != "discriminant",
         "training in steps, with train.optimizer=adamw or sgd"),
    Rule(("train.patience",), lambda c: c.train.monitor != "last", "train.monitor other than last"),
)  # fmt: skip
