"""The structure of the code: who may import whom, and how large files and folders may become.

Imports are read from the source with ``ast``; nothing is imported. ``ORDER`` is the plan: in each folder a
module may import modules of the levels before its own, and none beside it on the same level.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "pipeline", "model")
MAX_LINES = 350
MAX_FILES = 14

# Which other packages a package may import from. The longest matching entry counts.
PACKAGE_IMPORTS = {
    "data": set(),
    "pipeline": {"data"},
    "model": {"data"},
    "model/prediction": {"data", "pipeline"},
    "model/robustness": {"data", "pipeline"},
}

# Folder: its modules and folders, one level a string, the lowest level first.
ORDER = {
    "data": ["tools", "config", "command_line corpora encoders", "cache", "loader pages", "audit sharing"],
    "data/sharing": ["clips licences", "card formats", "archive export"],
    "data/command_line": ["missing numbers", "entry", "completion"],
    "data/audit": ["copies fingerprints lists names", "audit", "run"],
    "data/tools": [
        "canonical_json counts csv_text machine os_errors pictures processes progress",
        "atomic_files devices shapes writer_lock",
        "compilation fetch",
        "weights",
    ],
    "data/tools/compilation": ["numba_jit", "librosa_loading"],
    "data/tools/processes": ["dask_workers made_folders main_guard malloc signals", "pool"],
    "data/config": [
        "plugins schema_fields strict_yaml suggest",
        "networks schema_encoders schema_preprocess",
        "schema_train",
        "schema streams",
        "checks keys",
        "load",
        "words",
    ],
    "data/config/checks": ["bands rules types", "effects together"],
    "data/corpora": [
        "clips download",
        "differences files spelling synthetic",
        "protocol targets",
        "splits",
        "crema_d msp_improv pattern ravdess table",
        "scan",
    ],
    "data/corpora/targets": ["classes"],
    "data/corpora/synthetic": ["tasks write", "plan skin", "face voice", "motion make", "__init__"],
    "data/encoders": [
        "known onnx_graph record",
        "hub onnx_session table",
        "onnx_file transformers_folder",
        "chosen",
        "statement",
    ],
    "data/cache": [
        "flow_codec outcomes shard_plan stage",
        "flow_codec_torch shards stages",
        "recipes",
        "index shard_writer",
        "identity integrity",
        "packed",
    ],
    "data/pages": ["rendering strips"],
    "data/loader": [
        "batch mapped_files mixture prefetch sampling",
        "stage_arrays",
        "feature_set",
        "augmentation feature_split recording",
        "gather",
        "augment residency",
        "loader",
    ],
    "data/loader/augmentation": ["audio video"],
    "pipeline": [
        "encoders media",
        "appearance corrupt faces flow logmel speech",
        "stages",
        "extract preprocess streaming",
        "doctor init inspect overview",
        "sharing_commands split_commands",
        "commands",
    ],
    "pipeline/logmel": ["stage", "bands stream"],
    "pipeline/encoders": [
        "images torch_network whisper_mel windows",
        "onnx_faces onnx_speech resemblyzer smart_turn torchvision_faces transformers_appearance "
        "transformers_speech",
        "command load",
    ],
    "pipeline/speech": ["stage"],
    "pipeline/appearance": ["stage"],
    "pipeline/corrupt": ["kinds", "write"],
    "pipeline/media": [
        "opening",
        "colour container levels orientation timestamps",
        "clock formats frame samples",
        "joins lengths",
        "survey",
        "decoders",
        "audio video",
        "streaming",
        "video_writer",
    ],
    "pipeline/media/opening": ["not_media versions"],
    "pipeline/media/decoders": ["nvdec"],
    "pipeline/media/formats": ["delays ogg", "links"],
    "pipeline/media/samples": ["track"],
    "pipeline/media/streaming": ["address audio", "live"],
    "pipeline/faces": [
        "face grid motion mouth quality",
        "tracking yunet",
        "detectors speaker",
        "align",
        "stage",
        "people stream",
    ],
    "pipeline/flow": ["engine", "raft", "engines", "stage", "stream"],
    "pipeline/flow/raft": [
        "compiled kernels size threads tiles upsampling",
        "correlation winograd",
        "encoder update",
        "network",
        "engine",
    ],
    "pipeline/stages": ["first_clips limits", "clip", "isolation", "shard"],
    "pipeline/preprocess": [
        "claim cluster_kinds media_digests needed_weights own_gpu summary worker_settings",
        "cluster survey",
        "shared_files",
        "tasks",
        "warm_up",
        "graph",
    ],
    "pipeline/streaming": ["levels rows voice", "file", "live"],
    "pipeline/overview": ["choice figures", "page", "command"],
    "pipeline/init": [
        "found vocabulary",
        "table_text",
        "folders foreign_table known",
        "look write",
        "command",
    ],
    "pipeline/inspect": ["source_frames", "contact_sheet", "clip_video", "clips"],
    "model": [
        "distributed file_names intervals",
        "calibration",
        "metrics",
        "network",
        "peers",
        "members",
        "training",
        "evaluation",
        "prediction sweep",
        "robustness",
        "prediction_commands",
        "commands",
    ],
    "model/network": [
        "positions streams time_match",
        "gpu",
        "visual_encoders",
        "attention audio_encoders hide_streams",
        "conformer heads",
        "extra_encoders",
        "fusion",
        "inputs",
        "deiii",
        "task",
    ],
    "model/network/gpu": [
        "casts fill side_stream",
        "kernels",
        "image_kernels",
        "available residual",
        "heads images norm",
        "attention",
    ],
    "model/network/inputs": ["build network"],
    "model/peers": ["base layers match", "attention gru late mbt mult vavl"],
    "model/distributed": ["devices launch", "ranks", "layers"],
    "model/training": [
        "checkpoint gather_batch loaders monitor optim",
        "losses run_folder",
        "parts",
        "logs",
        "origin trained",
        "start",
        "scoring step",
        "trainer",
        "train",
    ],
    "model/training/start": ["history weights"],
    "model/training/logs": ["cost writers", "open_logs"],
    "model/training/step": ["half_weights launch sums", "step", "graphs"],
    "model/evaluation/sections": ["calibration ceiling gaps layers mistakes"],
    "model/evaluation": [
        "figures predictions",
        "sections",
        "crossval_report report results",
        "evaluate",
        "compare ensemble",
        "compare_crossval",
        "many_runs other_corpus",
        "crossval",
    ],
    "model/robustness": ["features report", "corrupted"],
    "model/prediction/ensemble": ["average folder"],
    "model/sweep": ["space", "combinations proposals results", "comparable", "sweep", "command"],
    "model/prediction": [
        "manifest names result settings shapley",
        "hub onnx_file",
        "export",
        "ensemble windows",
        "predictor",
        "with_onnx with_torch",
        "loading overlay",
        "files live",
    ],
    "model/prediction/live": ["moments", "show"],
    "model/prediction/overlay": ["panel", "layout people track", "live video"],
    "model/prediction/windows": ["combine timelines", "moments units", "newest recording", "whole", "media"],
}


def modules(*folders: str) -> list[Path]:
    """The Python files below the folders, relative to the checkout."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported_names(path: Path) -> Iterator[str]:
    """Every module or name that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def as_path(name: str) -> str | None:
    """``deiii.data.cache.shards.open_shard`` as ``data/cache/shards``; None if it is in no package."""
    parts = name.split(".")
    if parts[0] != "deiii" or len(parts) < 2 or parts[1] not in PACKAGES:
        return None
    while parts:
        path = ROOT.joinpath(*parts[1:])
        if path.with_suffix(".py").is_file() or path.is_dir():
            return "/".join(parts[1:])
        parts.pop()
    raise AssertionError(name)


def imports() -> list[tuple[str, str]]:
    """Pairs (importer, imported) of paths without suffix, for all files of the three packages."""
    pairs = []
    for path in modules(*PACKAGES):
        importer = "/".join(path.with_suffix("").parts)
        targets = {as_path(name) for name in imported_names(path)} - {None, importer}
        pairs += [(importer, target) for target in sorted(targets)]
    return pairs


IMPORTS = imports()


def test_packages_import_one_way():
    for importer, target in IMPORTS:
        package = max((r for r in PACKAGE_IMPORTS if f"{importer}/".startswith(f"{r}/")), key=len)
        other = target.split("/")[0]
        own = importer.split("/")[0]
        assert other == own or other in PACKAGE_IMPORTS[package], f"{importer} imports {target}"


def member(path: str, folder: str) -> str | None:
    """The name of a module within the folder, or of the folder within it that holds it."""
    if path == folder:
        return "__init__"
    return path[len(folder) + 1 :].split("/")[0] if path.startswith(f"{folder}/") else None


def inside(folder: str) -> Iterator[tuple[str, str, str]]:
    """Imports between members of a folder: the two members, and the import in words."""
    for importer, target in IMPORTS:
        a, b = member(importer, folder), member(target, folder)
        if a and b and a != b:
            yield a, b, f"{importer} imports {target}"


@pytest.mark.parametrize("folder", sorted(ORDER))
def test_modules_import_only_lower_levels(folder):
    level = {name: n for n, names in enumerate(ORDER[folder]) for name in names.split()}
    level.setdefault("__init__", len(level))
    for a, b, words in inside(folder):
        if a in level and b in level:
            assert level[b] < level[a] or b == "__init__" and a in level, words


@pytest.mark.parametrize("folder", sorted(ORDER))
def test_no_circle(folder):
    graph: dict[str, set[str]] = {}
    for a, b, _ in inside(folder):
        graph.setdefault(a, set()).add(b)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"{folder}: {' -> '.join(error.args[1])}") from None


def test_no_bare_import_of_a_package():
    for path in modules(*PACKAGES, "deiii", "tests", "benchmarks", "docs"):
        for name in imported_names(path):
            assert name.split(".")[0] not in PACKAGES, f"{path} imports {name} instead of deiii.{name}"


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=str)
def test_file_is_short_and_says_what_it_is(path):
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{lines} lines, at most {MAX_LINES}: split it"
    assert ast.get_docstring(parsed(path)), "needs a docstring"


def test_folders_are_small():
    for folder in {path.parent for path in modules(*PACKAGES)}:
        names = [p.name for p in (ROOT / folder).iterdir() if p.is_file() and p.suffix != ".pyc"]
        assert len(names) <= MAX_FILES, f"{folder} has {len(names)} files, at most {MAX_FILES}"


@pytest.mark.parametrize("folder", sorted({path.parent.as_posix() for path in modules(*PACKAGES)}))
def test_every_module_has_a_place_in_the_order(folder):
    here = {p.stem for p in (ROOT / folder).glob("*.py")}
    here |= {p.name for p in (ROOT / folder).iterdir() if p.is_dir() and any(p.glob("*.py"))}
    named = {name for names in ORDER[folder] for name in names.split()}
    assert here - {"__init__"} == named - {"__init__"}, "add new modules to ORDER, remove old ones"
