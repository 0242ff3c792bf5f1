"""Clips that are computed together: outcomes of the right clips, and the same bytes in any process."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.cache.shards import open_shard
from deiii.data.cache.stages import APPEARANCE
from deiii.data.config.load import load_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Clip, Corpus
from deiii.pipeline.encoders import load
from deiii.pipeline.stages import clip as clips_of_process
from deiii.pipeline.stages import first_clips
from deiii.pipeline.stages import shard as shards
from deiii.pipeline.stages.clip import run_clip
from deiii.pipeline.stages.first_clips import MachineFault
from deiii.pipeline.stages.shard import ShardTask, run_shard
from deiii.pipeline.stages.together import ClipsTogether
from tests.helpers.onnx_maker import speech_file

RNG = np.random.default_rng(0)
FILTERS = RNG.normal(size=(6, 1, 320)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """Voices of unequal lengths, and files without voice between them."""
    root = tmp_path / "raw"
    root.mkdir()
    made = {f"voice{n}": RNG.normal(scale=0.05, size=9600 + 1603 * n) for n in range(6)}
    made |= {
        "silent": np.zeros(16_000),
        "short": np.full(100, 0.3),
        "loud": RNG.normal(size=12_000).clip(-1, 1),
    }
    for name, samples in made.items():
        soundfile.write(root / f"{name}.wav", samples.astype(np.float32), 16_000, subtype="FLOAT")
    (root / "broken.wav").write_bytes(b"no audio at all" * 99)
    order = [
        "voice0",
        "broken",
        "voice1",
        "silent",
        "loud",
        "voice2",
        "short",
        "gone",
        "voice3",
        "voice4",
        "voice5",
    ]
    return Corpus("voices", str(root), ("a",), tuple(Clip(n, f"{n}.wav", "s", "a") for n in order))


@pytest.fixture
def words(tmp_path) -> list[str]:
    """Settings with a small ONNX file that reads 2 s at a time, four windows in a call."""
    path = speech_file(tmp_path / "encoder.onnx", FILTERS, length=32_000)
    return ["stages=[speech]", f"speech.encoder={path}", "speech.outputs=[rows]", "speech.batch=4"]


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """No models or outcomes of another test."""
    monkeypatch.setattr(clips_of_process, "_loaded", {})
    monkeypatch.setattr(first_clips, "_first", {})


def shard(folder: Path, corpus: Corpus, words: list[str], isolate: bool = False):
    """Compute a corpus as one shard; returns the statuses by clip and the file."""
    config = load_config(overrides=words)
    recipe, (plan,) = recipes(config)["speech"], plan_shards(corpus, 100)
    folder.mkdir(exist_ok=True)
    record = run_shard(ShardTask(recipe, plan, corpus.root, str(folder), None, to_yaml(config), isolate))
    return {row.id: (row.status, row.reason) for row in record.clips}, folder / f"{plan.name}.h5"


@pytest.fixture
def network(monkeypatch):
    """Lets each call of the encoder pass a function of its windows; returns the lengths in the calls."""
    calls: list[list[int]] = []
    real = load.load_encoder

    def use(refuse):
        class Watched:
            def __init__(self, inner):
                self._inner = inner

            def __call__(self, windows):
                return np.stack(self.ragged(list(windows)))

            def ragged(self, windows):
                calls.append([len(window) for window in windows])
                refuse(windows)
                return self._inner.ragged(windows)

        monkeypatch.setattr(load, "load_encoder", lambda c: replace(e := real(c), network=Watched(e.network)))
        return calls

    return use


def loudest(windows) -> float:
    return max(np.abs(window).max() for window in windows)


def expected(corpus: Corpus, name: str) -> np.ndarray:
    """The rows of a whole file, which are 40 ms apart: means of two filter outputs."""
    samples = soundfile.read(Path(corpus.root) / f"{name}.wav", dtype="float32")[0]
    padded = np.pad(samples, (0, -len(samples) % 320))
    rows = padded.reshape(-1, 320) @ FILTERS[:, 0].T
    return np.stack([rows[i : i + 2].mean(axis=0) for i in range(0, len(rows), 2)])


KINDS = {"broken": "not_media", "silent": "no_audio", "short": "too_short", "gone": "missing"}


def check(corpus: Corpus, file: Path, found, kinds: dict[str, str]):
    stored = open_shard(file)
    assert {name: status for name, (status, _) in found.items() if status != "ok"} == kinds
    for clip in corpus.clips:
        if clip.id not in kinds:
            states = stored.clip(clip.id)["states"][:, 0]
            np.testing.assert_allclose(states, expected(corpus, clip.id), rtol=2e-3, atol=2e-3)


def test_clips_of_a_shard_share_calls(tmp_path, corpus, words, network):
    calls = network(lambda windows: None)
    found, file = shard(tmp_path / "a", corpus, words)
    check(corpus, file, found, KINDS)
    assert list(map(len, calls)) == [4, 3]


@pytest.mark.parametrize("batch", [1, 4])
def test_an_error_of_the_encoder_is_the_outcome_of_its_clip_alone(tmp_path, corpus, words, network, batch):
    def refuse(windows):
        if loudest(windows) > 0.8:
            raise ValueError("too loud for this network")

    calls = network(refuse)
    found, file = shard(tmp_path / "a", corpus, [*words, f"speech.batch={batch}"])
    check(corpus, file, found, {**KINDS, "loud": "failed"})
    assert "unexpected ValueError" in found["loud"][1] and "too loud for this network" in found["loud"][1]
    assert max(map(len, calls)) == batch
    alone = run_clip("speech", str(Path(corpus.root) / "loud.wav"), load_config(overrides=words)).outcome
    assert (str(alone.status), alone.reason) == found["loud"]


def test_a_batch_that_needs_too_much_memory_is_computed_clip_by_clip(tmp_path, corpus, words, network):
    def refuse(windows):
        if len(windows) > 1:
            raise RuntimeError("CUDA out of memory")

    network(refuse)
    found, file = shard(tmp_path / "a", corpus, words)
    check(corpus, file, found, KINDS)


def test_an_error_of_the_machine_ends_the_run(tmp_path, corpus, words, network):
    def refuse(windows):
        raise OSError(errno.ENOSPC, "No space left on device")

    network(refuse)
    with pytest.raises(OSError, match="No space left"):
        shard(tmp_path / "a", corpus, words)
    assert not list((tmp_path / "a").iterdir())


def test_the_same_error_at_all_first_clips_ends_the_run(tmp_path, corpus, words, network):
    def refuse(windows):
        raise ValueError("no kernel for this device")

    network(refuse)
    voices = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.id.startswith("voice")))
    with pytest.raises(MachineFault, match="first 5 clips.*no kernel for this device"):
        shard(tmp_path / "a", voices, words)
    first_clips._first.clear()
    found, _ = shard(tmp_path / "b", corpus, words)  # the second clip ends otherwise
    assert [status for status, _ in found.values()].count("failed") == 7


@pytest.mark.parametrize("encoder", ["file", "resemblyzer"])
def test_a_shard_has_the_same_bytes_again_and_in_isolation(request, tmp_path, corpus, words, encoder):
    """Resemblyzer's rows differ in the last digit where a batch holds other clips."""
    if encoder == "resemblyzer":
        weights = request.getfixturevalue("test_data") / "weights/resemblyzer_pretrained.pt"
        words = [
            "stages=[speech]",
            "speech.encoder=resemblyzer",
            f"speech.weights={weights}",
            "speech.batch=4",
        ]
    found, first = shard(tmp_path / "a", corpus, words)
    if encoder == "file":
        check(corpus, first, found, KINDS)
    else:
        _, single = shard(tmp_path / "single", corpus, [*words, "speech.batch=1"])
        assert first.read_bytes() != single.read_bytes()
    again, second = shard(tmp_path / "b", corpus, words)
    isolated, third = shard(tmp_path / "c", corpus, words, isolate=True)
    assert found == again == isolated
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


class Pairs:
    """Computes two clips at a time, and fails for a pair with a clip named bad."""

    def __init__(self, short: int = 0):
        self._held: list[str] = []
        self._short = short  # results that are missing at the end

    def add(self, arrays):
        self._held.append(str(arrays["name"]))
        return self._compute() if len(self._held) == 2 else []

    def rest(self):
        return self._compute()[self._short :]

    def _compute(self):
        names, self._held = self._held, []
        if "bad" in names:
            raise ValueError(names)
        return [result(name) for name in names]


def result(name: str) -> StageResult:
    return StageResult(Outcome(Status.OK, name), {"name": np.array(name)})


FAILED = StageResult(Outcome(Status.FAILED, "a reason"))


def run_all(names, start=Pairs):
    """Reasons in order, after each clip and at the end; and what was computed alone."""
    alone: list[str] = []

    def compute(path, arrays):
        alone.append(path)
        assert path == str(arrays["name"])
        return FAILED if path == "bad" else result(path)

    clips = ClipsTogether(start, compute)
    unread = StageResult(Outcome(Status.UNREADABLE, "unread"))
    found = [[r.outcome.reason for r in clips.add(n, unread if n == "x" else result(n))] for n in names]
    return [*found, [r.outcome.reason for r in clips.rest()]], alone


def test_results_come_in_order_as_soon_as_those_before_are_there():
    assert run_all(["x", "a", "x", "b", "x", "c"]) == (
        [["unread"], [], [], ["a", "unread", "b"], ["unread"], [], ["c"]],
        [],
    )
    found, alone = run_all(["a", "bad", "c", "d", "e"])
    assert found == [[], ["a", "a reason"], [], ["c", "d"], [], ["e"]] and alone == ["a", "bad"]
    assert run_all(["a", "b", "bad"]) == ([[], ["a", "b"], [], ["a reason"]], ["bad"])


def test_an_object_that_gives_too_few_results_is_not_believed():
    found, alone = run_all(["a", "b", "c"], lambda: Pairs(short=1))
    assert found == [[], ["a", "b"], [], ["c"]] and alone == ["c"]


def test_the_limit_of_a_call_counts_what_was_spent_on_its_clips_before():
    """Each clip is read in 10 s, and each call takes 4 s; the error of "bad" makes clips compute alone."""
    now, limits = [0.0], []

    def compute(path, arrays):
        now[0] += 4.0
        return result(path)

    class Slow(Pairs):
        def add(self, arrays):
            now[0] += 4.0
            return super().add(arrays)

    def within(clips, spent):
        limits.append((clips, spent))
        return nullcontext()

    clips = ClipsTogether(Slow, compute, within, lambda: now[0])
    for name in ("a", "b", "c", "bad"):
        clips.add(name, result(name), 10.0)
    assert limits == [(1, 10.0), (2, 24.0), (1, 10.0), (2, 24.0), (1, 10.0), (1, 10.0)]


def test_the_time_of_reading_a_clip_counts_for_its_limit(tmp_path, corpus, words, monkeypatch):
    """Each of three clips is read in 10 s of 60 s; computing takes no time."""
    now, limits, read = [0.0], [], shards.read_clip

    def slow(*clip):
        now[0] += 10.0
        return read(*clip)

    def within(seconds):
        limits.append(seconds)
        return nullcontext()

    monkeypatch.setattr(shards, "read_clip", slow)
    monkeypatch.setattr(shards, "time_limit", within)
    monkeypatch.setattr(shards, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ClipsTogether.__init__, "__defaults__", (lambda *_: nullcontext(), lambda: now[0]))
    some = replace(
        corpus, clips=tuple(clip for clip in corpus.clips if clip.id in ("voice0", "voice1", "gone"))
    )
    found, _ = shard(tmp_path / "a", some, [*words, "clip_timeout=60"])
    assert found["gone"][0] == "missing"
    # Two calls take clips, and one computes what is left; "gone" has nothing to compute.
    assert sorted(limits) == [50.0, *[60.0] * 3, 100.0, 100.0]


def test_an_error_of_the_machine_in_a_batch_is_raised_and_not_tried_again():
    def full():
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with pytest.raises(OSError, match="Disk quota"):
        run_all(["a"], full)


def test_a_stage_that_reads_another_stage_computes_clips_together_anyway():
    with pytest.raises(ConfigError, match="'appearance': together is for a stage without upstream"):
        replace(APPEARANCE, together="package:Clips")
