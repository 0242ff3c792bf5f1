"""ImageNet weights of the frame encoder are found, downloaded once and checked before a run begins."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import shutil
import threading

import pytest
import torch
from torchvision.models import resnet18

from deiii.data.config.load import load_config
from deiii.data.tools import weights
from deiii.data.tools.weights import RESNET18, WeightsError, digest
from deiii.model.network.visual_encoders import ResNetEncoder
from deiii.model.training.train import imagenet_weights, train

FILE = "resnet18-f37072fd.pth"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with random weights of a ResNet-18 under the name of torchvision's file."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    torch.save(resnet18().state_dict(), folder / FILE)
    return folder


def publish(monkeypatch, url, sha256):
    """Name another address and digest in the weights table."""
    source = dataclasses.replace(weights.SOURCES[RESNET18], url=url, sha256=sha256)
    monkeypatch.setitem(weights.SOURCES, RESNET18, source)


@pytest.fixture
def server(stored, monkeypatch, tmp_path):
    """Publish `stored` on a local server in place of torchvision's."""
    handler = functools.partial(QuietHandler, directory=str(stored))
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    publish(monkeypatch, f"http://127.0.0.1:{http_server.server_port}/{FILE}", digest(stored / FILE))
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path / "downloads"))
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)
    yield http_server
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)
    publish(monkeypatch, f"http://127.0.0.1:9/{FILE}", "f37072fd")
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path / "downloads"))
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)


def config(*words):
    return load_config(overrides=["model.imagenet=true", *words])


def test_weights_are_downloaded_once_and_loaded(server, stored, tmp_path):
    path = imagenet_weights(config())
    assert path == str(tmp_path / "downloads" / FILE)
    encoder = ResNetEncoder(16, 2, path)
    expected = torch.load(stored / FILE, weights_only=True)["layer3.1.conv2.weight"]
    assert torch.equal(encoder.trunk[6][1].conv2.weight, expected)
    server.shutdown()
    assert imagenet_weights(config()) == path


def test_weights_are_taken_from_the_users_folder(server, stored, monkeypatch, tmp_path):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    shutil.copy(stored / FILE, tmp_path)
    assert imagenet_weights(config()) == str(tmp_path / FILE)
    assert not (tmp_path / "downloads").exists()


def test_damaged_weights_are_refused(server, monkeypatch, tmp_path):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / FILE).write_bytes(b"half of it")
    with pytest.raises(WeightsError, match="SHA-256"):
        imagenet_weights(config())


def test_weights_by_path(offline, stored):
    path = str(stored / FILE)
    assert imagenet_weights(config(f"model.imagenet_weights={path}")) == path
    with pytest.raises(WeightsError, match="no such weights file: /nowhere/own.pth"):
        imagenet_weights(config("model.imagenet_weights=/nowhere/own.pth"))


def test_a_file_of_other_weights_is_an_error_that_names_it(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold.*model\.imagenet_weights"):
        ResNetEncoder(16, 2, tmp_path / "other.pth")


def test_without_network_training_stops_before_a_run_folder_is_made(offline, tmp_path):
    settings = config(f"train.run={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}", "train.device=cpu")
    with pytest.raises(WeightsError, match=rf"{FILE}.*DEIII_WEIGHTS_DIR"):
        train(settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["model.imagenet=false"], ["model.video=false"]])
def test_networks_without_the_trunk_need_no_weights(offline, words):
    assert imagenet_weights(config(*words)) is None
