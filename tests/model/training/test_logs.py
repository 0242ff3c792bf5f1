"""Records of a training in TensorBoard, Weights & Biases and MLflow, without a network; what it cost."""

from __future__ import annotations

import fcntl
import json
import sys
import time
import warnings
from types import ModuleType, SimpleNamespace

import pytest
import torch

from deiii.__main__ import main
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.provenance import provenance
from deiii.model.training.logs import cost as cost_module
from deiii.model.training.logs import open_logs as module
from deiii.model.training.logs.cost import Cost, cost_text, joined_cost
from deiii.model.training.logs.open_logs import Logs, check_logs, flat, open_logs
from deiii.model.training.logs.writers import MlflowWriter, WandbWriter, local_store, plain_names
from deiii.model.training.run_folder import RunFolder
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

ROWS = [
    {"epoch": 0, "lr": 0.001, "train_loss": 1.5, "val_uar": 0.25, "val_ccc_valence": None, "seconds": 0.5},
    {"epoch": 1, "lr": 0.002, "train_loss": 1.25, "val_uar": 0.5, "val_ccc_valence": None, "seconds": 0.5},
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs in two parts, with TensorBoard alone."""
    folder = tmp_path_factory.mktemp("logs")
    write_rows(folder / "raw", tone_rows(folder / "raw", speakers=4))
    words = words_for(folder / "raw", folder / "cache", folder / "run")
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    first = json.loads((folder / "run/run.json").read_text())
    (folder / "run/config.yaml").write_text(
        (folder / "run/config.yaml").read_text().replace("epochs: 1", "epochs: 2")
    )
    assert main(["train", *words, "train.epochs=2", "--quiet", "--resume"]) == 0
    return RunFolder(folder / "run"), first


def test_tensorboard_has_the_figures_of_metrics_csv(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run, _ = trained
    events = EventAccumulator(str(run.events))
    events.Reload()
    history = run.read_history()
    assert len(history) == 2
    for key, tag in (("val_uar", "val/uar"), ("train_loss", "train/loss"), ("lr", "lr")):
        found = {event.step: event.value for event in events.Scalars(tag)}
        assert found == pytest.approx({int(row["epoch"]): row[key] for row in history}, rel=1e-6)


def test_cost_is_summed_over_the_parts_and_the_identity_stays(trained):
    run, first = trained
    info = run.read_info()
    assert info["record"] == first["record"]
    assert first["cost"]["parts"] == 1 and info["cost"]["parts"] == 2
    cost = info["cost"]
    assert cost["wall_seconds"] > first["cost"]["wall_seconds"] > 0
    assert cost["cpu_seconds"] > first["cost"]["cpu_seconds"] > 0
    assert cost["gpu_seconds"] == 0 and cost["gpu"] is None and cost["cores"] >= 1 and cost["processor"]
    assert cost["wall_seconds"] >= sum(row["seconds"] for row in run.read_history())


def test_a_finished_run_keeps_the_record_of_what_trained_it(trained, monkeypatch):
    """Its report states the command, the revision, the machine and the cost of its training."""
    run, _ = trained
    before, events = run.read_info(), sorted(run.events.iterdir())
    later = {**provenance(), "revision": "later", "gpu": "Another GPU", "command": "deiii later"}
    monkeypatch.setattr("deiii.model.training.train.provenance", lambda device: later)
    folder = run.path.parent
    words = words_for(folder / "raw", folder / "cache", run.path)
    assert main(["train", *words, "train.epochs=2", "--quiet", "--resume"]) == 0
    assert run.read_info() == before and sorted(run.events.iterdir()) == events


@pytest.mark.parametrize("text", ["epoch,val_loss\n0,1.", "epoch,val_loss\n0,x\n", None])
def test_a_damaged_table_of_a_finished_run_is_written_again(trained, text):
    """As its message says; what trained the run stays in the record."""
    run, _ = trained
    before, table = run.read_info(), run.metrics_csv.read_bytes()
    if text is None:
        run.metrics_csv.unlink()
    else:
        run.metrics_csv.write_text(text)
    folder = run.path.parent
    words = words_for(folder / "raw", folder / "cache", run.path)
    assert main(["train", *words, "train.epochs=2", "--quiet", "--resume"]) == 0
    assert run.metrics_csv.read_bytes() == table and run.read_info() == before


def test_gpu_seconds_are_the_time_of_all_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 1 << 30)
    now = iter([100.0, 107.5])
    # In the module alone: any thread of the process may ask for the time.
    clock = SimpleNamespace(perf_counter=lambda: next(now), process_time=time.process_time)
    monkeypatch.setattr(cost_module, "time", clock)
    found = Cost(torch.device("cuda"), 4).so_far()
    assert (found["wall_seconds"], found["gpu_seconds"], found["gpu_memory_bytes"]) == (7.5, 30.0, 1 << 30)
    twice = joined_cost(joined_cost(None, found), found)
    assert (twice["gpu_seconds"], twice["parts"], twice["gpu"]) == (60.0, 2, "Some GPU")
    assert "60 GPU seconds (Some GPU)" in cost_text(twice)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_installed_is_named_before_training(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "find_spec", lambda package: None if package == name else package)
    with pytest.raises(ConfigError, match=rf"train.log={name} needs the package {name}: pip install 'deiii"):
        check_logs(["tensorboard", name])
    check_logs(["tensorboard"])
    run = tmp_path / "run"
    assert main(["train", "tiny", f"cache={tmp_path}/none", f"train.run={run}", f"train.log=[{name}]"]) == 1
    err = capsys.readouterr().err
    assert f"pip install 'deiii[{name}]'" in err and err.count("error: ") == 1 and not run.exists()


def test_a_writer_that_fails_is_closed_with_one_message_and_the_others_go_on(capsys):
    class Away:
        ends: list = []

        def write(self, epoch, figures):
            raise OSError("the server is away")

        def close(self, finished):
            self.ends.append(finished)
            raise OSError("still away")

    class Here:
        rows: list = []

        def write(self, epoch, figures):
            self.rows.append((epoch, figures))

        def close(self, finished):
            self.rows.append(finished)

    logs = Logs({"wandb": Away(), "mlflow": Here()})
    logs.epoch(ROWS[0])
    assert Away.ends == [False], "it ends when it fails, not when the training does"
    logs.epoch(ROWS[1])
    logs.close(True)
    logs.close(True)
    assert Away.ends == [False]
    expected = {"lr": 0.001, "train/loss": 1.5, "val/uar": 0.25, "seconds": 0.5}
    assert Here.rows[0] == (0, expected) and len(Here.rows) == 3
    err = capsys.readouterr().err
    assert err.count("train.log=wandb stopped: the server is away; metrics.csv has all figures") == 1
    assert err.count("train.log=wandb was not closed: still away") == 1


def recorded(tmp_path, name: str, rows, done: int = 0) -> RunFolder:
    run = RunFolder(tmp_path / "runs/one")
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.info.exists():
        run.info.write_text("{}")
    config = Config()
    config.train.log = [name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the packages' own
        with open_logs(config, run, done) as logs:
            for row in rows:
                logs.epoch(row)
    return run


def test_mlflow_in_a_local_file_and_resumed(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recorded(tmp_path, "mlflow", ROWS[:1])
    recorded(tmp_path, "mlflow", ROWS[1:], done=1)
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("deiii").experiment_id])
    history = client.get_metric_history(run.info.run_id, "val/uar")
    assert sorted((m.step, m.value) for m in history) == [(0, 0.25), (1, 0.5)]
    assert run.data.params["train.lr"] == "0.001" and run.info.run_name == "one"
    assert run.info.status == "FINISHED"


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = recorded(tmp_path, "wandb", ROWS)
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    (record,) = folder.glob("run-*.wandb")
    assert run.read_info()["record"] in record.name
    assert b"train/loss" in record.read_bytes() and b"val/uar" in record.read_bytes()


def test_settings_by_dotted_name():
    assert flat({"a": {"b": {"c": 1}}, "d": [1, 2], "e": {}}) == {"a.b.c": 1, "d": [1, 2], "e": {}}


@pytest.mark.parametrize("message", ["", "the server is away"])
def test_a_writer_that_cannot_be_opened_is_left_out_and_the_training_goes_on(
    message, tmp_path, monkeypatch, capsys
):
    def away(*_):
        raise LookupError(f"{message}\n\nadvice")

    monkeypatch.setitem(module.KINDS, "mlflow", ("mlflow", "", away))
    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    run.info.write_text("{}")
    config = Config()
    config.train.log = ["mlflow", "tensorboard"]
    with open_logs(config, run, 0) as logs:
        assert list(logs.writers) == ["tensorboard"]
        logs.epoch(ROWS[0])
    expected = f"{message} advice".strip()
    assert capsys.readouterr().err == (
        f"train.log=mlflow does not record this training: {expected}; metrics.csv has all figures\n"
    )


class FakeClient:
    """MLflow's client, which refuses what the real one does; its experiment is made by another run."""

    made: list = []

    def __init__(self, tracking_uri):
        self.uri, self.asked = tracking_uri, 0
        FakeClient.made.append(self)
        self.params: dict = {}
        self.metrics: dict = {}
        folder = tracking_uri.removeprefix("sqlite:///").rpartition("/")[0]
        with open(f"{folder}/.lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def get_experiment_by_name(self, name):
        assert name == "deiii"
        self.asked += 1
        return None if self.asked == 1 else SimpleNamespace(experiment_id="7")

    def create_experiment(self, name):
        raise LookupError("it exists")

    def search_runs(self, experiments, *_, **__):
        assert experiments == ["7"]

    def create_run(self, experiment, **_):
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_param(self, run, key, value):
        assert key not in self.params and not set("()'") & set(key) and len(key) <= 250
        self.params[key] = value

    def log_metric(self, run, key, value, step):
        assert not set("()'") & set(key)
        self.metrics[key] = value


def test_mlflow_gets_names_that_it_takes_and_one_run_at_a_time_makes_its_tables(tmp_path, monkeypatch):
    tracking = ModuleType("mlflow.tracking")
    tracking.MlflowClient = FakeClient
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    settings = {"a.calm (f)": 1, "a.calm 'f'": 2, "a.calm _f_": 3, "b" * 300: 4, "ü.b": 5}
    writer = MlflowWriter(tmp_path / "run", "run", "0" * 32, settings, 0)
    writer.write(0, {"val/x (y)": 0.5})
    (client,) = FakeClient.made
    assert list(client.params.values()) == [1, 2, 3, 4, 5] and "ü.b" in client.params
    assert list(client.params)[:3] == ["a.calm _f_", "a.calm _f__2", "a.calm _f__3"]
    assert client.metrics == {"val/x _y_": 0.5}
    with open(tmp_path / "mlflow/.lock") as file:  # it is free again
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_names_that_mlflow_takes_stay():
    keys = ["train.lr", "val/uar", "corpus.codes.01", "a-b c:d"]
    assert plain_names(keys) == dict(zip(keys, keys, strict=True))


def test_the_address_of_mlflows_store_names_its_folder_whatever_signs_it_has(tmp_path):
    folder = tmp_path / "50% of?x#y%20z"
    prefix = f"sqlite:///{tmp_path}"
    assert local_store(folder) == f"{prefix}/50%25%20of%3Fx%23y%2520z/mlflow.db" and folder.is_dir()
    assert local_store(tmp_path / "runs") == f"{prefix}/runs/mlflow.db"


@pytest.mark.parametrize("mode", [None, ""])
def test_empty_variables_of_wandb_are_as_good_as_none(mode, tmp_path, monkeypatch):
    given: dict = {}
    wandb = ModuleType("wandb")
    wandb.init = lambda **words: given.update(words)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False) if mode is None else monkeypatch.setenv(name, mode)
    WandbWriter(tmp_path, "one", "0" * 32, {}, 0)
    assert (given["mode"], given["project"]) == ("offline", "deiii")
