"""Computing one shard in a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.config.load import load_config, to_yaml
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.preprocess.media_digests import MediaDigests
from deiii.pipeline.preprocess.survey import finished_shards
from deiii.pipeline.stages import shard as stages
from tests.helpers.clips import audio_corpus


def test_a_file_that_is_deleted_after_its_digest_is_computed_again_when_it_returns(tmp_path, monkeypatch):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    config = load_config(overrides=["stages=[logmel]", f"cache={tmp_path / 'cache'}"])
    recipe, plan = recipes(config)["logmel"], plan_shards(corpus, 2)[0]
    task = stages.ShardTask(recipe, plan, str(corpus.root), str(tmp_path), None, to_yaml(config))
    media = Path(corpus.root) / plan.clips[0].path
    content, real = media.read_bytes(), stages.source_digest

    def digest(path: Path) -> str:
        found = real(path)
        media.unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(stages, "source_digest", digest)
        gone, there = stages.run_shard(task).clips
    assert (gone.status, gone.source) == ("missing", "") and there.status == "ok" and there.source

    def finished() -> list[str]:
        digests = MediaDigests(config.cache, corpus)
        return list(finished_shards(tmp_path, recipe, [plan], digests, config)[0])

    assert finished() == [plan.name]  # as long as the file is missing
    media.write_bytes(content)
    assert not finished()
    assert [row.status for row in stages.run_shard(task).clips] == ["ok", "ok"]
    assert finished() == [plan.name]


@pytest.mark.parametrize("name", ["faces", "flow"])
def test_wrong_weights_are_an_error_and_not_an_outcome_of_clips(tmp_path, name):
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(b"garbage")
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    config = load_config(
        overrides=[
            "faces.detector=yunet",
            "flow.method=raft",
            f"faces.weights={wrong}",
            f"flow.weights={wrong}",
        ]
    )
    recipe, plan = recipes(config)[name], plan_shards(corpus, 2)[0]
    folder = tmp_path / "stage"
    folder.mkdir()
    task = stages.ShardTask(recipe, plan, str(corpus.root), str(folder), str(tmp_path), to_yaml(config))
    with pytest.raises(WeightsError, match="wrong.bin does not hold"):
        stages.run_shard(task)
    assert not list(folder.iterdir())  # no shard was started and no outcome recorded
