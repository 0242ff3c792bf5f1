"""Estimate the costs of 10^4, 10^6 and 10^8 clips: hours, GPUs, bytes, money, and the first limit.

    python -m benchmarks.scaling                       # the table of docs/scaling.md
    python -m benchmarks.scaling gpu_pairs_per_s=900   # with other assumptions

Measured rates come from the files in ``benchmarks/results``. Everything else is a named assumption,
printed with the table, to be replaced by the figures of the reader's machines and contracts.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SCALES = (10**4, 10**6, 10**8)
HOUR = 3600.0
CLIPS_PER_SHARD = 16


@dataclass(frozen=True)
class Assumed:
    """Assumptions, none of them measured. Money is in US dollars."""

    frames: float = 60  # of a clip: 2.4 s at 25 frames per second
    source_mb: float = 0.7  # of a clip's media file
    epochs: float = 60  # as in configs/base.yaml
    logmel_ms: float = 10  # of one core per clip: decoding audio and the transform
    gpu_pairs_per_s: float = 1000  # RAFT small on crops of 112 px on one GPU
    gpu_clips_per_s: float = 500  # training of the base preset on one GPU
    core_hour: float = 0.04
    gpu_hour: float = 2.5
    disk_gb_month: float = 0.08  # block storage beside the machines
    store_gb_month: float = 0.023  # object store
    store_million_gets: float = 0.4
    cores: float = 64  # of the machine or cluster
    gpus: float = 8
    memory_gb: float = 64  # of the machine on which the command itself runs


@dataclass(frozen=True)
class Measured:
    """Rates from the benchmarks, on the machines named in their files."""

    face_frames_per_core_s: float  # YuNet, tracking, crops
    flow_pairs_per_core_s: float  # RAFT small on a CPU
    overhead_ms_per_task: float  # of the Dask graph: one shard of one stage
    overhead_kb_per_clip: float  # of the memory of the command's process
    cache_mb_per_clip: float  # faces, flow, log-mel of 60 frames of 112 px
    rows_requests_per_clip: float
    rows_mb_per_clip: float
    shard_requests_per_clip: float

    @classmethod
    def read(cls, folder: Path = RESULTS) -> Measured:
        """Return the rates from the newest file of each benchmark."""
        faces, flow, overhead, store = (
            last_result(folder, name) for name in ("faces", "flow", "overhead", "object_store")
        )
        grown = overhead["main_process_mb"] - overhead["main_process_mb_before"]
        return cls(
            faces["frames_per_s"],
            flow["small"]["pairs_per_s"] / 2,  # two threads
            1000 * overhead["seconds"] / overhead["shards_and_stages"],
            1000 * grown / overhead["clips"],
            store["mb_per_clip"],
            store["rows"]["requests_per_clip"],
            store["rows"]["mb_read_per_clip"],
            store["shard"]["requests_per_clip"],
        )


def last_result(folder: Path, name: str) -> dict:
    """Return the last RESULT line of a benchmark's newest file.

    Raises:
        FileNotFoundError: if there is none; the message has the command.
    """
    found = sorted(folder.glob(f"{name}-[0-9]*.txt"))
    lines = found[-1].read_text(encoding="utf-8").splitlines() if found else []
    results = [line.split("RESULT ", 1)[1] for line in lines if "RESULT {" in line]
    if not results:
        raise FileNotFoundError(f"{folder} has no result of {name}; run `python -m benchmarks.{name}`")
    return json.loads(results[-1])


def cost(clips: int, m: Measured, a: Assumed) -> dict[str, float | str]:
    """Return hours of work, bytes and money for one corpus, and what limits it.

    Hours of cores and GPUs are computation; the others are elapsed time with ``a.cores`` and ``a.gpus``.
    """
    faces = clips * a.frames / m.face_frames_per_core_s / HOUR
    logmel = clips * a.logmel_ms / 1000 / HOUR
    flow_gpu = clips * a.frames / a.gpu_pairs_per_s / HOUR
    train_gpu = clips * a.epochs / a.gpu_clips_per_s / HOUR
    tasks = 3 * clips / CLIPS_PER_SHARD
    clock = {
        "faces and log-mel on the cores": (faces + logmel) / a.cores,
        "flow on the GPUs": flow_gpu / a.gpus,
        "the scheduler": tasks * m.overhead_ms_per_task / 1000 / HOUR,
        "training on the GPUs": train_gpu / a.gpus,
    }
    memory = clips * m.overhead_kb_per_clip / 1e6
    cache_tb = clips * m.cache_mb_per_clip / 1e6
    limit = max(clock, key=clock.get)
    if memory > a.memory_gb:
        limit = f"memory of the command itself ({memory:.0f} GB for the tables of all clips)"
    gets = {"rows": m.rows_requests_per_clip, "shard": m.shard_requests_per_clip}
    return {
        "clips": clips,
        "faces_core_h": faces,
        "logmel_core_h": logmel,
        "flow_cpu_core_h": clips * a.frames / m.flow_pairs_per_core_s / HOUR,
        "flow_gpu_h": flow_gpu,
        "train_gpu_h": train_gpu,
        "preprocess_h": max(v for k, v in clock.items() if not k.startswith("training")),
        "scheduler_h": clock["the scheduler"],
        "training_h": clock["training on the GPUs"],
        "command_memory_gb": memory,
        "source_tb": clips * a.source_mb / 1e6,
        "cache_tb": cache_tb,
        "compute_usd": (faces + logmel) * a.core_hour + (flow_gpu + train_gpu) * a.gpu_hour,
        "disk_usd_month": cache_tb * 1000 * a.disk_gb_month,
        "store_usd_month": cache_tb * 1000 * a.store_gb_month,
        **{
            f"gets_usd_training_{k}": clips * a.epochs * n / 1e6 * a.store_million_gets
            for k, n in gets.items()
        },
        "loader_gb_s": m.rows_mb_per_clip * a.gpu_clips_per_s * a.gpus / 1000,
        "first_limit": limit,
    }


def table(rows: list[dict[str, float | str]]) -> str:
    """Return the scales side by side, as Markdown."""
    head = "| | " + " | ".join(f"10^{len(str(r['clips'])) - 1} clips" for r in rows) + " |"
    lines = [head, "|---|" + "---|" * len(rows)]
    for name in rows[0]:
        if name != "clips":
            cells = [
                v if isinstance(v := row[name], str) else f"{v:,.3g}" if v < 1000 else f"{v:,.0f}"
                for row in rows
            ]
            lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0]
    )
    parser.add_argument("assumed", nargs="*", metavar="NAME=NUMBER", help="replace an assumption")
    args = parser.parse_args()
    names = {f.name for f in fields(Assumed)}
    changed = dict(word.split("=", 1) for word in args.assumed)
    if odd := sorted(set(changed) - names):
        parser.error(f"unknown: {', '.join(odd)}; there are {', '.join(sorted(names))}")
    assumed, measured = replace(Assumed(), **{k: float(v) for k, v in changed.items()}), Measured.read()
    rows = [cost(clips, measured, assumed) for clips in SCALES]
    print(table(rows))
    for title, section in (("measured", measured), ("assumed", assumed)):
        values = ", ".join(f"{f.name} {getattr(section, f.name):.4g}" for f in fields(section))
        print(f"\n{title}: {values}")
    rounded = [{k: v if isinstance(v, str) else float(f"{v:.4g}") for k, v in r.items()} for r in rows]
    print("RESULT " + json.dumps({"bench": "scaling", "rows": rounded}))


if __name__ == "__main__":
    main()
