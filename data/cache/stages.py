"""The stages: each one is declared once, here or by an installed package, and read by everything else.

A `Stage` states what a stage stores, on which settings and weights its result depends, and which function
computes it. Stage keys, shards, the loader, training, prediction and inspection read it; a worker imports the
function when it runs the stage.

>>> list(stages())[:3]
['faces', 'flow', 'logmel']
>>> get_stage("flow").upstream
'faces'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from deiii.data.cache.stage import ExtraInput, Field, Stage, Weights, import_function
from deiii.data.config.plugins import STAGES, installed, load_plugin
from deiii.data.config.schema import (
    AppearanceConfig,
    Config,
    FacesConfig,
    FlowConfig,
    LogMelConfig,
    ModelConfig,
    Speech2Config,
    SpeechConfig,
)
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import chosen, identity, sizes
from deiii.data.encoders.onnx_session import has_gpu
from deiii.data.tools.devices import has_fast_float16
from deiii.data.tools.weights import YUNET

__all__ = [
    "APPEARANCE", "BUILT_IN", "FACES", "FLOW", "LOGMEL", "SPEECH", "SPEECH2", "ExtraInput", "Field", "Stage",
    "Weights", "extra_inputs", "get_stage", "import_function", "network_stages", "stage_of_stream", "stages",
    "with_upstream",
]  # fmt: skip

RAFT_WEIGHTS = {
    "raft_small": "Raft_Small_Weights.DEFAULT",
    "raft_large": "Raft_Large_Weights.DEFAULT",
}


def _uses_yunet(faces: FacesConfig) -> bool:
    return faces.detector == "yunet"


def _detector_weights(faces: FacesConfig) -> Weights | None:
    """Return those of YuNet, or the given cascade; OpenCV's own cascade needs no file."""
    return Weights(faces.weights, YUNET) if _uses_yunet(faces) or faces.weights else None


def _measure_of_active(faces: FacesConfig) -> dict[str, str]:
    """Return the name of the measure in place of ``active``, because an earlier measure chose other faces."""
    return {"pick": "active, by motion and opening"} if faces.pick == "active" else {}


def _uses_raft(flow: FlowConfig) -> bool:
    return flow.method == "raft"


def _raft(flow: FlowConfig) -> Weights | None:
    return Weights(flow.weights, RAFT_WEIGHTS[flow.model]) if _uses_raft(flow) else None


def _runs_on_gpu(flow: FlowConfig) -> bool:
    return _uses_raft(flow) and flow.device != "cpu"


def _precision(config: Config) -> str:
    """Return the type that ``flow.precision=auto`` stands for on the GPUs of this run, if any."""
    elsewhere = config.cluster.kind != "local"
    if not _runs_on_gpu(config.flow) or (config.gpus == 0 and not config.scheduler and not elsewhere):
        return "float32"
    if elsewhere:
        return "float16" if config.cluster.gpu else "float32"
    return "float16" if has_fast_float16() else "float32"


def _trims(logmel: LogMelConfig) -> bool:
    return bool(logmel.trim_db)


FACES = Stage(
    name="faces",
    version=9,  # 9: another video track where no frame of the first one can be decoded
    modality="video",
    settings=FacesConfig,
    fields={
        "frames": Field("uint8", ("faces.size", "faces.size", 3), "large", public="frames"),
        "time": Field("float64", (), "small", public="video_time"),
        "box": Field("float32", (4,), public="box"),
        "landmarks": Field("float32", (5, 2), public="landmarks"),
        "valid": Field("bool", (), "small", public="valid"),
        "interpolated": Field("bool", (), public="interpolated"),
    },
    work="deiii.pipeline.faces.stage:extract_faces",
    models="deiii.pipeline.faces.detectors:load_detector",
    load_early=True,
    note="deiii.pipeline.media.decoders.nvdec:note",
    product="crops",
    switch="video",
    stream="frames",
    counts_when={"min_score": _uses_yunet},
    weights=_detector_weights,
    known_weights={YUNET: "faces.detector=yunet"},
    identity=_measure_of_active,
)

FLOW = Stage(
    name="flow",
    version=2,
    modality="video",
    settings=FlowConfig,
    fields={
        "flow": Field("int8", ("faces.size", "faces.size", 2), "large", dtypes=("float16",), public="flow"),
        "scale": Field("float32", (), "small", optional=True),
        "valid": Field("bool", (), "small", public="flow_valid"),
        "time": Field("float64"),
    },
    work="deiii.pipeline.flow.stage:flow_of_crops",
    upstream="faces",
    models="deiii.pipeline.flow.engines:load_engine",
    product="flow",
    switch="flow",
    stream="flow",
    counts_when={"model": _uses_raft, "updates": _uses_raft, "precision": _uses_raft},
    settled={"precision": _precision},
    weights=_raft,
    known_weights={
        RAFT_WEIGHTS["raft_small"]: "flow.method=raft",
        RAFT_WEIGHTS["raft_large"]: "flow.method=raft flow.model=raft_large",
    },
    on_gpu=_runs_on_gpu,
    at_once=3,
    note="deiii.pipeline.flow.raft.size:note_on_size",
    decode="deiii.data.cache.flow_codec:decode_flow",
)

LOGMEL = Stage(
    name="logmel",
    version=8,  # 8: joined Matroska, MPEG-TS and files of several sample rates, equal wrong timestamps
    modality="audio",
    settings=LogMelConfig,
    fields={
        "logmel": Field("float16", ("logmel.n_mels",), "large", public="logmel"),
        "time": Field("float64", (), "small", public="audio_time"),
    },
    work="deiii.pipeline.logmel.stage:extract_logmel",
    product="audio",
    hop_ms="logmel.hop_ms",
    switch="audio",
    stream="audio",
    counts_when={"trim_db": _trims},
    note="deiii.pipeline.logmel.bands:note_on_bands",
)


def _encoder_weights(section: SpeechConfig | AppearanceConfig) -> Weights | None:
    choice = chosen(section)
    named = choice.path or choice.encoder.weights
    return Weights(choice.path or None, choice.encoder.weights) if named else None


def _encoder_on_gpu(section: SpeechConfig | AppearanceConfig) -> bool:
    on_cpu = chosen(section).encoder.runtime == "onnx" and not has_gpu()
    return section.device != "cpu" and not on_cpu


def _names_outputs(section: SpeechConfig | AppearanceConfig) -> bool:
    return bool(section.outputs)


def _has_grid(section: AppearanceConfig) -> bool:
    return section.grid > 0


def _reads_pixels(section: AppearanceConfig) -> bool:
    return chosen(section).encoder.name == "onnx"


SPEECH = Stage(
    name="speech",
    version=6,  # 6: as version 8 of logmel
    modality="audio",
    settings=SpeechConfig,
    fields={
        "states": Field("float16", ("layers", "width"), "large"),
        "time": Field("float64", (), "small"),
    },
    work="deiii.pipeline.speech.stage:read_speech",
    together="deiii.pipeline.speech.stage:SpeechClips",
    models="deiii.pipeline.encoders.load:load_encoder",
    load_early=True,
    product="speech features",
    hop_ms="hop_ms",
    weights=_encoder_weights,
    counts_when={"outputs": _names_outputs},
    on_gpu=_encoder_on_gpu,
    sizes=sizes,
    identity=identity,
)

SPEECH2 = replace(SPEECH, name="speech2", settings=Speech2Config, product="features of the second encoder")

APPEARANCE = Stage(
    name="appearance",
    version=1,
    modality="video",
    settings=AppearanceConfig,
    fields={
        "states": Field("float16", ("layers", "width"), "large"),
        "valid": Field("bool"),
        "time": Field("float64"),
    },
    work="deiii.pipeline.appearance.stage:encode_crops",
    upstream="faces",
    models="deiii.pipeline.encoders.load:load_encoder",
    load_early=True,
    product="appearance features",
    weights=_encoder_weights,
    counts_when={"outputs": _names_outputs, "grid": _has_grid, "pixels": _reads_pixels},
    on_gpu=_encoder_on_gpu,
    sizes=sizes,
    identity=identity,
)

BUILT_IN = (FACES, FLOW, LOGMEL)  # the network reads each of these by its own switch


@lru_cache(maxsize=1)
def stages() -> dict[str, Stage]:
    """Return every stage by name, each after its upstream stage: deiii's own, then those of packages.

    Raises:
        ConfigError: for an installed stage that declares itself wrongly.
        PluginError: for one whose package cannot be imported.
    """
    found = {stage.name: stage for stage in (*BUILT_IN, SPEECH, SPEECH2, APPEARANCE)}
    waiting = {name: load_plugin(STAGES, name) for name in installed(STAGES)}
    for name, stage in waiting.items():
        if not isinstance(stage, Stage) or stage.name != name or name in found:
            raise ConfigError(
                f"the entry point {name!r} of {STAGES} must name a Stage called {name!r}, unlike any of "
                f"{', '.join(found)}; it names {stage!r:.80}"
            )
    while waiting:
        ready = [s for s in waiting.values() if s.upstream is None or s.upstream in found]
        if not ready:
            first = next(iter(waiting.values()))
            raise ConfigError(f"stage {first.name!r} reads {first.upstream!r}, which {_are(found)}")
        for stage in ready:
            found[stage.name] = waiting.pop(stage.name)
    return found


def get_stage(name: str) -> Stage:
    """Return one stage by name. Raises ConfigError, which names those that exist."""
    found = stages()
    if name not in found:
        raise ConfigError(f"there is no stage {name!r}: it {_are(found)}")
    return found[name]


def stage_of_stream(stream: str) -> str:
    """Return the name of the stage that an input of the network is read from.

    >>> stage_of_stream("frames")
    'faces'
    """
    return next(stage.name for stage in stages().values() if stage.stream == stream)


def _are(found: Mapping[str, Stage]) -> str:
    return (
        f"is none of {', '.join(found)}. A stage of another package needs that package installed in this "
        "environment"
    )


def with_upstream(names: Iterable[str]) -> list[str]:
    """Return stages and all those upstream of them, in the order of `stages`.

    >>> with_upstream(["flow"])
    ['faces', 'flow']
    """
    wanted: set[str] = set()
    for name in names:
        at: str | None = name
        while at is not None and at not in wanted:
            wanted.add(at)
            at = get_stage(at).upstream
    return [name for name in stages() if name in wanted]


def network_stages(model: ModelConfig) -> list[str]:
    """Return the stages whose arrays a network with these settings reads.

    Faces, whose times and masks the loader samples, come with every video stage; with ``model.within_logmel``
    log-mel comes for its times.

    Raises:
        ConfigError: where ``model.extra`` names what is not a stage.

    >>> network_stages(ModelConfig(video=False, audio=False))
    ['faces', 'flow']
    """
    wanted = [s.name for s in stages().values() if s.switch and getattr(model, s.switch)] + model.extra
    wanted += [LOGMEL.name] * model.within_logmel
    return [name for name in with_upstream(wanted) if name in wanted or get_stage(name).modality == "video"]


def extra_inputs(config: Config) -> tuple[ExtraInput, ...]:
    """Return the stages of ``model.extra`` that the network reads, in their order.

    Raises:
        ConfigError: for a stage that does not exist, has a switch of its own, is named twice, is not among
            ``stages``, is a video stage that does not read faces, or stores rows other than [D] and
            [layers,D].
    """
    found = []
    for name in config.model.extra:
        stage = get_stage(name)
        shape = stage.shape(stage.large, config)
        told = f"model.extra names {name!r}"
        if stage.switch or config.model.extra.count(name) > 1:
            raise ConfigError(f"{told}, but model.{stage.switch or 'extra'} has it already; name it once")
        if name not in config.stages:
            raise ConfigError(f"{told}, which stages lacks: add it, and run `deiii preprocess`")
        if stage.modality == "video" and FACES.name not in with_upstream([name]):
            raise ConfigError(
                f"{told}, a video stage that does not read {FACES.name}: its rows must be theirs"
            )
        if len(shape) not in (1, 2):
            raise ConfigError(f"{told}, whose rows are {list(shape)}: the network takes [D] or [layers, D]")
        per_hop = LOGMEL.row_seconds(config) / stage.row_seconds(config) if stage.modality == "audio" else 1.0
        found.append(ExtraInput(name, stage.modality, shape, per_hop))
    return tuple(found)
