"""RAFT for clips against torchvision's forward of each pair."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_large, raft_small

from deiii.data.tools.weights import WeightsError
from deiii.pipeline.flow.raft.engine import RaftBatches
from deiii.pipeline.flow.raft.network import RaftEngine, load_network
from deiii.pipeline.flow.raft.size import size_note, working_size
from tests.helpers.own_settings import own_settings


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_network(make, seed=0):
    """RAFT with random weights and batch norms that are not the identity."""
    torch.manual_seed(seed)
    network = make(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network


SMALL, LARGE = random_network(raft_small), random_network(raft_large)


def drifting(frames, height, width=None, seed=0):
    """A smooth random image that moves by (1, 0.5) px a frame: uint8 [m,H,W,3]."""
    width = width or height
    rng = np.random.default_rng(seed)
    big = cv2.resize(
        rng.integers(0, 256, (height // 8 + 4, width // 8 + 4, 3)).astype(np.uint8),
        (width + 32, height + 32), interpolation=cv2.INTER_CUBIC,
    )  # fmt: skip
    moves = [np.array([[1, 0, i - 16], [0, 1, i / 2 - 16]], np.float32) for i in range(frames)]
    clip = [cv2.warpAffine(big, m, (width, height), borderMode=cv2.BORDER_REFLECT) for m in moves]
    return torch.from_numpy(np.stack(clip))


def torchvision_flow(network, frames, updates):
    """float32 [m-1,H,W,2] from torchvision, one pair at a time."""
    images = frames.permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.inference_mode():
        pairs = zip(images[:-1], images[1:], strict=True)
        flows = [network(a[None], b[None], num_flow_updates=updates)[-1] for a, b in pairs]
    return torch.cat(flows).permute(0, 2, 3, 1)


@settings(deadline=None, max_examples=6)
@given(
    network=st.sampled_from([SMALL, LARGE]),
    frames=st.integers(2, 4),
    height=st.sampled_from([128, 136, 152]),
    width=st.sampled_from([128, 144]),
    updates=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_flow_is_torchvisions(network, frames, height, width, updates, seed):
    clip = drifting(frames, height, width, seed)
    ours = RaftEngine(network, updates).flow(clip)
    reference = torchvision_flow(network, clip, updates)
    assert ours.shape == (frames - 1, height, width, 2)
    assert (ours - reference).abs().max() <= 1e-4 * max(1, float(reference.abs().max()))


@pytest.mark.parametrize("network", [SMALL, LARGE], ids=["small", "large"])
def test_a_pairs_flow_does_not_depend_on_its_batch(network):
    clip = drifting(6, 128)
    engine = RaftEngine(network, 2)
    together = engine.flow(clip)
    for i in range(5):
        assert (engine.flow(clip[i : i + 2])[0] - together[i]).abs().max() <= 1e-4
    some = engine.flow(clip[[3, 4, 0, 1, 2]], torch.tensor([0, 2, 3]))
    assert (some - together[[3, 0, 1]]).abs().max() <= 1e-4


def test_features_are_carried_from_batch_to_batch_and_each_frame_encoded_once():
    clip = drifting(7, 128)
    engine = RaftEngine(SMALL, 2)
    whole = engine.flow(clip)
    encoded = []
    engine.features.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    parts = [engine.flow(clip[:4]), engine.flow(clip[3:], continues=True)]
    assert (torch.cat(parts) - whole).abs().max() <= 1e-4
    assert sum(encoded) == 7


def test_the_network_given_is_not_changed():
    state = {k: v.clone() for k, v in LARGE.state_dict().items()}
    RaftEngine(LARGE, 1).flow(drifting(2, 128))
    assert state.keys() == LARGE.state_dict().keys()
    assert all(torch.equal(v, LARGE.state_dict()[k]) for k, v in state.items())


def test_bfloat16_stays_near_float32():
    clip = drifting(2, 128)
    exact = RaftEngine(SMALL, 2).flow(clip)
    rough = RaftEngine(SMALL, 2, dtype=torch.bfloat16).flow(clip)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() <= 0.1 * exact.norm()


def test_sizes():
    assert [working_size(s) for s in (64, 112, 128, 130, 136)] == [128, 128, 128, 136, 136]
    assert not size_note(128) and not size_note(224)
    assert "crops of 130 px are enlarged to 136 px" in size_note(130)


@pytest.mark.parametrize("height,width", [(100, 130), (112, 112)])
def test_other_sizes_are_enlarged_and_the_flow_is_converted_back(height, width):
    clip = drifting(2, height, width)
    tall, wide = working_size(height), working_size(width)
    images = F.interpolate(clip.permute(0, 3, 1, 2).float(), (tall, wide), mode="bilinear") / 127.5 - 1
    with torch.inference_mode():
        large = SMALL(images[:1], images[1:], num_flow_updates=2)[-1]
    expected = F.interpolate(large, (height, width), mode="bilinear")[0].permute(1, 2, 0)
    expected = expected * torch.tensor([width / wide, height / tall])
    assert (RaftEngine(SMALL, 2).flow(clip)[0] - expected).abs().max() <= 1e-4


def test_settings_of_the_calling_program_change_nothing():
    frames, first = drifting(3, 128).numpy(), np.arange(2)
    batches = RaftBatches(RaftEngine(SMALL, 1), "float16")
    wanted = batches.submit(frames, first, False)()["flow"]
    with own_settings():
        found = batches.submit(frames, first, False)()["flow"]
    np.testing.assert_array_equal(found, wanted)


def test_threads_change_nothing():
    clip = drifting(20, 128)
    one = RaftEngine(SMALL, 1).flow(clip)
    torch.set_num_threads(2)
    assert torch.equal(RaftEngine(SMALL, 1).flow(clip), one)


@pytest.mark.parametrize("network", [SMALL, LARGE], ids=["small", "large"])
def test_the_code_for_gpus_equals_torchvision_too(network, monkeypatch):
    """Without Winograd and the CPU's lookup: what runs on a GPU, here on the CPU."""
    monkeypatch.setattr("deiii.pipeline.flow.raft.network.winograd_pays", lambda device, dtype: False)
    monkeypatch.setattr("deiii.pipeline.flow.raft.correlation.on_cpu", lambda x: False)
    clip = drifting(3, 128, 144)
    reference = torchvision_flow(network, clip, 2)
    difference = (RaftEngine(network, 2).flow(clip) - reference).abs().max()
    assert difference <= 1e-4 * max(1, float(reference.abs().max()))


def test_weights_must_be_those_of_the_network(tmp_path):
    good = tmp_path / "small.pth"
    torch.save(SMALL.state_dict(), good)
    loaded = load_network("raft_small", str(good))
    assert torch.equal(loaded.feature_encoder.conv.weight, SMALL.feature_encoder.conv.weight)
    with pytest.raises(WeightsError, match="raft_large"):
        load_network("raft_large", str(good))
    torch.save(SMALL, tmp_path / "pickled.pth")  # a whole module is code, which is never run
    (tmp_path / "text.pth").write_text("<html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("pickled", "text", "empty"):
        with pytest.raises(WeightsError, match="does not hold weights(?!.*load failed)"):
            load_network("raft_small", str(tmp_path / f"{name}.pth"))


def read_flo(path):
    raw = path.read_bytes()
    assert np.frombuffer(raw, np.float32, 1)[0] == np.float32(202021.25)
    width, height = np.frombuffer(raw, np.int32, 2, 4)
    return np.frombuffer(raw, np.float32, offset=12).reshape(height, width, 2)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["raft_small", "raft_large"])
def test_accuracy_on_flying_chairs_and_aloe_is_torchvisions(test_data, model):
    file = {"raft_small": "raft_small_princeton", "raft_large": "raft_large_princeton_sintel"}[model]
    network = load_network(model, str(test_data / "weights" / f"{file}.pth"))
    engine = RaftEngine(network, 12)

    def read(path):
        return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)

    errors = []
    for n in range(4):
        stem = str(test_data / "flow" / f"{n:07d}")
        pair = torch.from_numpy(np.stack([read(f"{stem}-img0.ppm"), read(f"{stem}-img1.ppm")]))
        truth = torch.from_numpy(read_flo(test_data / "flow" / f"{n:07d}-gt.flo").copy())

        def epe(flow, truth=truth):
            return float((flow[0] - truth).norm(dim=-1).mean())

        errors.append((epe(engine.flow(pair)), epe(torchvision_flow(network, pair, 12))))
    ours, theirs = np.mean(errors, axis=0)
    assert abs(ours - theirs) <= 0.01 and ours < 2.5
    views = np.stack([read(test_data / "flow" / f"aloe{side}.jpg") for side in "LR"])
    views = torch.from_numpy(views[:, : views.shape[1] // 8 * 8, : views.shape[2] // 8 * 8])
    height, width = min(views.shape[1], 640), min(views.shape[2], 640)
    views = views[:, :height, :width]
    disparity = cv2.imread(str(test_data / "flow" / "aloeGT.png"), cv2.IMREAD_GRAYSCALE)[:height, :width]

    def u(flow):
        return np.median(np.abs(flow[0, ..., 0].numpy() + disparity)[disparity > 0])

    one, other = u(engine.flow(views)), u(torchvision_flow(network, views, 12))
    assert abs(one - other) <= 0.01 and one < 1.5
