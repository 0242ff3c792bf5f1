"""The Dask graph: one task a shard and a stage, flow after faces, outcomes at the end.

Only this module, `deiii.pipeline.preprocess.cluster` and what that is made of (`engines`, `sharing`) know
Dask. Tasks are submitted as their inputs are finished and a bounded number at a time, so a corpus of
millions of clips needs no large graph.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm import CommClosedError

from deiii.data.cache.index import (
    INDEX,
    TABLE,
    ShardRecord,
    StageIndex,
    corpus_folder,
    stage_folder,
    write_index,
    write_table,
)
from deiii.data.cache.recipes import Recipe, recipes
from deiii.data.cache.shard_plan import ShardPlan, plan_shards
from deiii.data.cache.stages import get_stage, import_function
from deiii.data.config.load import to_yaml
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import remove_temporary
from deiii.data.tools.progress import ProgressBar, progress_bar
from deiii.data.tools.writer_lock import writer_lock
from deiii.pipeline.preprocess.cluster import open_cluster, stage_resources
from deiii.pipeline.preprocess.needed_weights import fetch_needed
from deiii.pipeline.preprocess.plan import Sources, finished_shards, set_aside
from deiii.pipeline.preprocess.shared_files import Shared, run_shared, shared_files
from deiii.pipeline.preprocess.summary import Summary, summarise
from deiii.pipeline.stages.shard import ShardTask, run_shard

IN_FLIGHT = 256  # tasks the scheduler knows of at once, or two a worker; finished ones are replaced
POLL_S = 0.02  # between two looks for ended tasks
ATTEMPTS = 3  # worker deaths that a shard may cause, the later ones with isolated clips


class PreprocessError(RuntimeError):
    """Preprocessing cannot go on; what is finished is kept, and the message says what to do."""


@dataclass
class Work:
    """A shard that is to be made."""

    task: ShardTask
    attempt: int = 1


def preprocess(config: Config, corpus: Corpus, say: Callable[[str], None] = print) -> Summary:
    """Bring a corpus's caches up to date.

    Finished shards are kept, whatever stopped the run that made them; a changed setting or a
    changed media file recomputes what depends on it and nothing else.

    Args:
        config: settings; ``stages`` says which stages.
        corpus: the scanned corpus.
        say: where lines for people go.

    Raises:
        PreprocessError: where the disk, the weights or the cluster stop the run.
    """
    begun = time.monotonic()
    made = recipes(config)
    plans = plan_shards(corpus, config.corpus.clips_per_shard)
    folders = {s: stage_folder(config.cache, corpus.name, s, r.key) for s, r in made.items()}
    try:
        with writer_lock(corpus_folder(config.cache, corpus.name), say):
            for folder in folders.values():
                folder.mkdir(parents=True, exist_ok=True)
                remove_temporary(folder)
            lists = [folder / INDEX for folder in folders.values()]
            for path in [*lists, corpus_folder(config.cache, corpus.name) / TABLE]:
                if path.is_dir():
                    say(set_aside(path, "it is a folder"))
            sources = Sources(config.cache, corpus)
            done: dict[str, dict[str, ShardRecord]] = {}
            for stage, recipe in made.items():
                done[stage], notes = finished_shards(folders[stage], recipe, plans, sources, config)
                for note in notes:
                    say(note)
            reused = sum(len(d) for d in done.values())
            todo = [(s, p) for s in made for p in plans if p.name not in done[s]]
            say(_opening(corpus, plans, made, done))
            for note_on in [note for stage in made if (note := get_stage(stage).note)]:
                if note := import_function(note_on)(config):
                    say(note)
            if todo:
                fetch_needed(config, {s for s, _ in todo}, say)
                for stage in {s for s, _ in todo}:  # an index is of finished stages: none until it is one
                    (folders[stage] / INDEX).unlink(missing_ok=True)
                try:
                    _run(config, corpus, made, folders, plans, done, say)
                finally:
                    with suppress(OSError):  # the trouble that ended the run is the one to tell
                        for folder in folders.values():
                            remove_temporary(folder)
            indices = {}
            for stage, recipe in made.items():
                records = [done[stage][p.name] for p in plans]
                indices[stage] = StageIndex(stage, recipe.key, recipe.provenance, records)
                write_index(folders[stage], indices[stage])
            write_table(config.cache, corpus)
            paths = {c.id: c.path for c in corpus.clips}
            sources.save({paths[i]: row.source for i, row in next(iter(indices.values())).clips.items()})
            seconds = time.monotonic() - begun
            return summarise(config.cache, corpus, indices, seconds, len(todo), reused)
    except OSError as error:
        raise PreprocessError(
            f"{error}; the cache folder {config.cache} must be writable and have room. "
            "Finished shards are kept: put it right and run the same command again"
        ) from error


def _opening(
    corpus: Corpus,
    plans: Sequence[ShardPlan],
    made: Mapping[str, Recipe],
    done: Mapping[str, Mapping[str, ShardRecord]],
) -> str:
    """Two lines: what there is, and what is left of it."""
    parts = [f"{stage}-{recipe.key} {len(done[stage])}/{len(plans)}" for stage, recipe in made.items()]
    head = (
        f"{corpus.name}: {len(corpus.clips)} clips of {len(corpus.speakers)} speakers in {len(plans)} shards"
    )
    return f"{head}\nshards finished: {', '.join(parts)}; a step below is one clip in one stage"


def _run(
    config: Config,
    corpus: Corpus,
    made: Mapping[str, Recipe],
    folders: Mapping[str, Path],
    plans: Sequence[ShardPlan],
    done: dict[str, dict[str, ShardRecord]],
    say: Callable[[str], None],
) -> None:
    """Make the missing shards on a cluster and file their records in ``done``."""
    settings = to_yaml(config)
    root = str(Path(corpus.root).resolve())
    ready: deque[Work] = deque()
    waiting: dict[tuple[str, str], Work] = {}  # by the upstream shard it waits for
    for plan in plans:
        for stage, recipe in made.items():
            if plan.name in done[stage]:
                continue
            upstream = str(folders[recipe.upstream].resolve()) if recipe.upstream else None
            task = ShardTask(recipe, plan, root, str(folders[stage].resolve()), upstream, settings)
            if recipe.upstream and plan.name not in done[recipe.upstream]:
                waiting[recipe.upstream, plan.name] = Work(task)
            else:
                ready.append(Work(task))
    total = sum(len(w.task.plan.clips) for w in [*ready, *waiting.values()])
    with open_cluster(config, len(ready)) as client, shared_files(client, config, root) as shared:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        say(f"{workers} workers{_more(config)}, dashboard at {client.dashboard_link}")
        resources = stage_resources(client, config)
        with progress_bar(desc="preprocess", unit="step", total=total) as bar:
            room = max(IN_FLIGHT, 2 * max(workers, config.workers))
            _drive(client, resources, shared, room, ready, waiting, done, bar)


def _more(config: Config) -> str:
    """Says that more workers may come."""
    if config.cluster.adaptive:
        return f" (up to {config.workers or 'one for each core'}, as there is work)"
    return f" of {config.workers}" if config.cluster.kind != "local" else ""


def _drive(
    client: Client,
    resources: Callable[[str], Mapping[str, float] | None],
    shared: Shared | None,
    room: int,
    ready: deque[Work],
    waiting: dict[tuple[str, str], Work],
    done: dict[str, dict[str, ShardRecord]],
    bar: ProgressBar,
) -> None:
    # Records are fetched while others are waited for; asking for one after the other costs a round trip each.
    running = as_completed(with_results=True, raise_errors=False)
    flight: dict[Future, Work] = {}

    def submit() -> None:
        while ready and len(flight) < room:
            work = ready.popleft()
            stage, name = work.task.recipe.stage, work.task.plan.name
            future = client.submit(
                run_shared,
                shared,
                run_shard,
                work.task,
                # Dask keeps something for every prefix of a key that it has ever seen: one a stage.
                key=(f"{stage}-{work.task.recipe.key}", name, work.attempt),
                resources=resources(stage),
                priority=1 if work.task.upstream else 0,
                pure=False,
            )
            flight[future] = work
            running.add(future)

    submit()
    for future, record in _ended(client, running, flight):
        work = flight.pop(future)
        stage, plan = work.task.recipe.stage, work.task.plan
        if future.status == "finished":
            done[stage][plan.name] = record
            bar.update(len(plan.clips))
            bar.set_postfix_str(stage, refresh=False)
            if (stage, plan.name) in waiting:
                # At once, not after all faces: a GPU has work early, the crops are still in the file cache.
                ready.appendleft(waiting.pop((stage, plan.name)))
        else:
            ready.append(_again(future, work))
        submit()


def _ended(client: Client, running: as_completed, flight: Mapping[Future, Work]) -> Iterator[tuple]:
    """Futures that have ended and their results, while there are some in flight.

    Raises:
        CommClosedError: where the scheduler is gone, at once: ``as_completed`` forgets a future whose
            result was on its way then, and would wait for ever.
    """
    while flight:
        batch = running.next_batch(block=False)
        if client.status != "running" or any(future.cancelled() for future in flight):
            raise CommClosedError("the connection to the scheduler broke")
        yield from batch
        if not batch:
            time.sleep(POLL_S)


def _again(future: Future, work: Work) -> Work:
    """The same shard once more, its clips isolated, if a worker died of it; else raise."""
    stage, name = work.task.recipe.stage, work.task.plan.name
    error = future.exception()
    if not isinstance(error, KilledWorker):
        raise error
    if work.attempt >= ATTEMPTS:
        raise PreprocessError(
            f"{stage} of shard {name} killed its worker {ATTEMPTS} times, most likely for memory; "
            "finished shards are kept: run again with fewer workers"
        ) from error
    isolate = work.task.upstream is None  # only decoding of media files is isolated
    return Work(replace(work.task, isolate=isolate), work.attempt + 1)
