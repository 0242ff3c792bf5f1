"""Compare the speed of frozen encoders in deiii with that of their libraries, called clip by clip.

    python -m benchmarks.encoders [--runs 5] [--device cpu] [--folder wavlm=/weights/wavlm-base-plus ...]
                                  [--faces dinov2=/weights/dinov2-small ...] [--only dinov2 ...]

"deiii" is the stage's own function on files of DEIII_TEST_DATA (RAVDESS voices, GRID faces): reading,
windows, all layers, float16. "plain" does the same for each clip with the library alone, as its README shows:
for smart-turn librosa, transformers' WhisperFeatureExtractor and one onnxruntime session; for Resemblyzer
librosa and one LSTM of PyTorch; for folders of transformers AutoModel with all hidden states; for face
encoders one call for each crop: of the session, of torchvision's network after its own transforms (its
weights are random here), or of AutoModel after its image processor. "reading alone" is `read_audio` beside
`librosa.load`. Each run times both in turn on one thread; medians of the ratios are compared. The factor is
seconds of work for one second of audio, or for one second of video at 25 frames.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import librosa
import numpy as np
import torch
from torchvision.models import get_model, get_model_weights

from benchmarks.machine import describe
from deiii.data.cache.outcomes import StageResult
from deiii.data.config.load import load_config
from deiii.data.encoders.onnx_graph import read_nodes, with_outputs
from deiii.data.encoders.onnx_session import open_session
from deiii.pipeline.appearance.stage import encode_crops
from deiii.pipeline.encoders.images import resized
from deiii.pipeline.encoders.load import Loaded, load_encoder
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from deiii.pipeline.speech.stage import SpeechClips, read_speech

CLIPS, FRAMES, SIZE, FPS = 24, 75, 112, 25
RATE = 16_000
Way = Callable[[Any], object]


def plain_smart_turn(path: str, layers: tuple[int, ...]) -> Way:
    """Return the way of the model card, with transformers' log-mel and the layers' states as outputs."""
    from transformers import WhisperFeatureExtractor

    model = Path(path).read_bytes()
    norms = [n.outputs[0] for n in read_nodes(model) if n.kind == "LayerNormalization"]
    names = [norms[2 * layer] for layer in layers]
    session = open_session(with_outputs(model, names), threads=1)
    extractor = WhisperFeatureExtractor(chunk_length=8)

    def encode(file: str) -> object:
        samples = librosa.load(file, sr=RATE)[0][-8 * RATE :]
        samples = np.pad(samples, (8 * RATE - len(samples), 0))
        mel = extractor(samples, sampling_rate=RATE, return_tensors="np", do_normalize=True)["input_features"]
        return session.run(names, {"input_features": mel.astype(np.float32)})

    return encode


def plain_resemblyzer(path: str) -> Way:
    """Return librosa's mel and one LSTM of three layers, whose output is that of the last layer only."""
    stored = torch.load(path, weights_only=True, map_location="cpu")["model_state"]
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict({k[5:]: v for k, v in stored.items() if k.startswith("lstm.")})

    @torch.inference_mode()
    def encode(file: str) -> object:
        samples = librosa.load(file, sr=RATE)[0]
        mel = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=400, hop_length=160, n_mels=40)
        return lstm(torch.from_numpy(mel.T.astype(np.float32))[None])[0].numpy()

    return encode


def plain_transformers(folder: str, device: str) -> Way:
    """Return AutoModel with all hidden states, one clip in a call."""
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def encode(file: str) -> object:
        inputs = extractor(librosa.load(file, sr=RATE)[0], sampling_rate=RATE, return_tensors="pt")
        values = next(iter(inputs.values())).to(device)
        return [state.cpu().numpy() for state in model(values, output_hidden_states=True).hidden_states]

    return encode


def plain_onnx_faces(path: str, size: int, colour: bool) -> Way:
    """Return a way that calls the session once for each crop."""
    session = open_session(path, threads=1)
    (name,) = (given.name for given in session.get_inputs())

    def encode(clip: dict[str, np.ndarray]) -> object:
        images = [resized(crop, size).astype(np.float32)[None] for crop in clip["frames"]]
        if not colour:
            images = [image.mean(axis=-1, keepdims=True) / 127.5 - 1 for image in images]
        return [session.run(["embedding"], {name: image}) for image in images]

    return encode


def plain_torchvision(name: str, path: str) -> Way:
    """Return torchvision's network after its own transforms, one crop in a call."""
    network = get_model(name, weights=None)
    network.load_state_dict(torch.load(path, weights_only=True))
    network.classifier = torch.nn.Identity()
    prepare = get_model_weights(name).DEFAULT.transforms()
    network.eval()

    @torch.inference_mode()
    def encode(clip: dict[str, np.ndarray]) -> object:
        images = [prepare(torch.from_numpy(crop).permute(2, 0, 1))[None] for crop in clip["frames"]]
        return [network(image).numpy() for image in images]

    return encode


def plain_image_folder(folder: str) -> Way:
    """Return AutoModel with all hidden states after its image processor, one crop in a call."""
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def encode(clip: dict[str, np.ndarray]) -> object:
        inputs = [processor(crop, return_tensors="pt")["pixel_values"] for crop in clip["frames"]]
        return [model(values, output_hidden_states=True).hidden_states for values in inputs]

    return encode


def encode_speech(files: Iterable[str], config: Any, encoder: Loaded) -> list[StageResult]:
    """Return the results of the speech stage for files that are one shard."""
    clips = SpeechClips(config, encoder)
    found = [result for file in files for result in clips.add(read_speech(file, config).arrays)]
    return [*found, *clips.rest()]


def loaded(stage: str, *words: str) -> tuple[Any, Loaded]:
    """Return the settings and the encoder that words choose."""
    config = getattr(load_config(overrides=[f"stages=[{stage}]", *words]), stage)
    return config, load_encoder(config)


def measure(ways: dict[str, Way], clips: list[Any], seconds: float, runs: int) -> dict[str, float]:
    """Return the real-time factor of each way, and the median ratio of the plain one to deiii's."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):  # the first one warms up
        for name, way in ways.items():
            start = time.perf_counter()
            for clip in clips:
                way(clip)
            if run:
                spent[name].append(time.perf_counter() - start)
    ratio = statistics.median(p / d for p, d in zip(spent["plain"], spent["deiii"], strict=True))
    found = {f"factor_{name}": float(f"{statistics.median(s) / seconds:.3g}") for name, s in spent.items()}
    return {**found, "plain_to_deiii": round(ratio, 2)}


def options_of(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of the benchmarks of encoders."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=description)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="names of encoders; the others are left out"
    )
    return parser


def real_files(parser: argparse.ArgumentParser) -> Path:
    """Return the folder of real clips and weights; ends the program where none is set."""
    shared = os.environ.get("DEIII_TEST_DATA")
    if not shared:
        parser.error("set DEIII_TEST_DATA to the folder of real clips and weights")
    return Path(shared)


def main() -> None:
    parser = options_of(__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", action="append", default=[], metavar="NAME=FOLDER", help="of transformers, for speech"
    )
    parser.add_argument(
        "--faces", action="append", default=[], metavar="NAME=FOLDER", help="of transformers, for face crops"
    )
    options = parser.parse_args()
    shared = real_files(parser)
    torch.set_num_threads(1)
    weights = shared / "weights"
    voices = sorted(map(str, (shared / "media/ravdess_speech_16k").glob("*.flac")))[:: 1440 // CLIPS]
    voice_s = sum(librosa.get_duration(path=file) for file in voices)
    device = f"speech.device={options.device}"
    table = {}
    speech = {
        "smart-turn": (
            [f"speech.weights={weights / 'smart-turn-v3.2-cpu.onnx'}"],
            lambda: plain_smart_turn(str(weights / "smart-turn-v3.2-cpu.onnx"), (1, 2, 3, 4)),
        ),
        "resemblyzer": (
            [f"speech.weights={weights / 'resemblyzer_pretrained.pt'}"],
            lambda: plain_resemblyzer(str(weights / "resemblyzer_pretrained.pt")),
        ),
    }
    for item in options.folder:
        name, _, folder = item.partition("=")
        speech[name] = (
            [f"speech.encoder={folder}"], lambda folder=folder: plain_transformers(folder, options.device)
        )  # fmt: skip
    reading = {
        "deiii": lambda file: read_audio(file, RATE, [], []),
        "plain": lambda f: librosa.load(f, sr=RATE),
    }

    def wanted(name: str) -> bool:
        return not options.only or name in options.only

    def note(name: str, ways: dict[str, Way], clips: list[Any], seconds: float) -> None:
        table[name] = measure(ways, clips, seconds, options.runs)
        print(name, json.dumps(table[name]), flush=True)

    if wanted("reading alone"):
        note("reading alone", reading, voices, voice_s)
    for name, (words, plain) in speech.items():
        if not wanted(name):
            continue
        chosen = [] if words[0].startswith("speech.encoder") else [f"speech.encoder={name}"]
        config, encoder = loaded("speech", *chosen, *words, *([device] if name != "smart-turn" else []))
        ways: dict[str, Way] = {
            "deiii": lambda file, c=config, e=encoder: encode_speech([file], c, e), "plain": plain(),
        }  # fmt: skip
        note(name, ways, voices, voice_s)
    frames = [rgb for rgb, _ in read_video(sorted((shared / "media/grid").iterdir())[0])][:FRAMES]
    crops = np.stack(
        [resized(frame[: min(frame.shape[:2]), : min(frame.shape[:2])], SIZE) for frame in frames]
    )
    clip = {"frames": crops, "valid": np.ones(len(crops), bool), "time": np.arange(len(crops)) / FPS}
    with TemporaryDirectory() as made:
        mobile = str(Path(made, "mobilenet.pth"))
        torch.save(get_model("mobilenet_v3_large", weights=None).state_dict(), mobile)
        deep, fer = str(weights / "faceres_deep.onnx"), str(weights / "fer_emotion.onnx")
        faces: dict[str, tuple[list[str], Callable[[], Way]]] = {
            "faceres-deep": ([f"appearance.weights={deep}"], lambda: plain_onnx_faces(deep, 224, True)),
            "fer-emotion": ([f"appearance.weights={fer}"], lambda: plain_onnx_faces(fer, 64, False)),
            "mobilenet_v3_large": (
                [f"appearance.weights={mobile}"], lambda: plain_torchvision("mobilenet_v3_large", mobile)
            ),
        }  # fmt: skip
        for item in options.faces:
            name, _, folder = item.partition("=")
            faces[name] = ([f"appearance.encoder={folder}"], lambda folder=folder: plain_image_folder(folder))
        for name, (words, plain) in faces.items():
            if not wanted(name):
                continue
            chosen = [] if words[0].startswith("appearance.encoder") else [f"appearance.encoder={name}"]
            settings, network = loaded("appearance", *chosen, *words)
            ways = {
                "deiii": lambda c, s=settings, e=network: list(encode_crops([c], s, e)),
                "plain": plain(),
            }
            note(name, ways, [clip], len(crops) / FPS)
    result = {
        "bench": "encoders", "runs": options.runs, "device": options.device, "threads": 1,
        "clips": len(voices), "audio_s": round(voice_s, 1), "frames": len(crops), "encoders": table,
        **describe("onnxruntime", "torch", "transformers", "librosa"),
    }  # fmt: skip
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
