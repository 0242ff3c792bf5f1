"""The reference for DE-III on RAVDESS: an RBF SVM on functionals of MFCC, log-mel, pitch and energy.

It uses the same recordings, folds and validation actors as ``deiii crossval ravdess_audio``. C is chosen
on the validation actors of each fold; the test actors are scored once. A second result, reported
separately, standardises the functionals of each speaker over that speaker's own unlabelled recordings,
including test speakers.

    python -m benchmarks.ravdess_svm corpus.root=raw/ravdess
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from benchmarks.machine import made_by
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.tools.atomic_files import atomic_path, write_json
from deiii.model import metrics
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.intervals import estimate
from deiii.model.training.run_folder import RunFolder
from deiii.pipeline.media.audio import read_audio

RATE, HOP, FFT = 16000, 160, 512
TRIM_DB = 40.0
CS = (1.0, 3.0, 10.0, 30.0)


def functionals(path: str) -> np.ndarray:
    """Statistics of the low-level curves of one recording and of their changes, float32 [F]."""
    samples, _, _ = read_audio(path, RATE, [])
    samples, _ = librosa.effects.trim(samples, top_db=TRIM_DB, frame_length=FFT, hop_length=HOP)
    power = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=FFT, hop_length=HOP, n_mels=40, fmin=50)
    logmel = librosa.power_to_db(power, top_db=80)
    mfcc = librosa.feature.mfcc(S=logmel, n_mfcc=20)
    delta = librosa.feature.delta(mfcc, width=5, mode="nearest")
    energy = librosa.power_to_db(power.sum(axis=0, keepdims=True), top_db=80)
    pitch = librosa.yin(samples, fmin=60, fmax=600, sr=RATE, frame_length=1024, hop_length=HOP)
    pitch = 12 * np.log2(pitch[: energy.shape[1]] / 100)
    voiced = energy[0, : len(pitch)] > energy.max() - 25
    pitch = pitch[voiced] if voiced.sum() > 5 else pitch
    parts = [_spread(mfcc), _spread(delta)[:, 1:2], _spread(logmel), _spread(energy)]
    parts += [_spread(np.diff(energy)), _spread(pitch[None]), _spread(np.diff(pitch)[None])]
    shape = [len(samples) / RATE, voiced.mean(), np.polyfit(np.arange(len(pitch)), pitch, 1)[0]]
    return np.concatenate([*(p.ravel() for p in parts), shape]).astype(np.float32)


def _spread(curves: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, five percentiles and skewness of each row."""
    mean, sd = curves.mean(1), curves.std(1)
    skew = ((curves - mean[:, None]) ** 3).mean(1) / np.maximum(sd, 1e-6) ** 3
    return np.stack([mean, sd, *np.percentile(curves, (5, 25, 50, 75, 95), axis=1), skew], axis=1)


def all_functionals(corpus, cache: Path, workers: int) -> np.ndarray:
    """[N, F] in the order of the clip table; stored in ``cache`` by a digest of this file and the clips."""
    text = Path(__file__).read_text(encoding="utf-8") + "".join(c.id for c in corpus.clips)
    path = cache / f"functionals-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        files = [str(Path(corpus.root) / c.path) for c in corpus.clips]
        # librosa compiles into a cache beside itself on first use. When several processes compiled at once,
        # every later run crashed in its pitch tracker; therefore one process runs first.
        functionals(files[0])
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            rows = list(tqdm(pool.map(functionals, files, chunksize=16), "functionals", len(files)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, np.stack(rows), allow_pickle=False)
    return np.load(path, allow_pickle=False)


def by_speaker(x: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """The rows of each speaker, standardised with the mean and standard deviation of that speaker."""
    out = np.empty_like(x)
    for speaker in np.unique(speakers):
        rows = speakers == speaker
        out[rows] = StandardScaler().fit_transform(x[rows])
    return out


def uar(truth: np.ndarray, guess: np.ndarray) -> float:
    """UAR over the classes that occur in ``truth``, as deiii computes it; of no clips, an error."""
    found = metrics.uar(truth, guess)
    if found is None:
        raise ValueError("there is no clip to score")
    return found


def run_fold(x: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray]) -> dict:
    """Choose C on the validation rows, then score the test rows once."""
    scaler = StandardScaler().fit(x[rows["train"]])
    z = scaler.transform(x)

    def fit(c):
        return SVC(C=c, gamma="scale", class_weight="balanced").fit(z[rows["train"]], y[rows["train"]])

    trained = {c: fit(c) for c in CS}
    val = {c: uar(y[rows["val"]], svm.predict(z[rows["val"]])) for c, svm in trained.items()}
    best = max(val, key=val.get)
    guess = trained[best].predict(z[rows["test"]])
    test = uar(y[rows["test"]], guess)
    return {"C": best, "val_uar": round(val[best], 4), "test_uar": round(test, 4), "guess": guess}


def against(folder: Path, clips: Sequence[Clip], right: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """UAR of a cross-validation minus that of the SVM on the same clips, by kind of SVM, with intervals.

    UAR is over all folds together: the mean over the network's seeds, and separately that of their averaged
    probabilities. Intervals are 95 % t over speakers and, for the first, over seeds too.

    Args:
        folder: folder of ``deiii crossval``.
        clips: all clips.
        right: whether each clip was classified correctly, bool [N], keyed by kind of SVM.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}  # by seed and clip, the probability of each class
    for path in sorted(folder.glob("fold*-seed*/predictions.csv")):
        table = read_predictions(path)
        by_clip = rows.setdefault(path.parent.name.split("seed")[1], {})
        for clip, probabilities in zip(table.clips, table.probabilities.tolist(), strict=True):
            by_clip[clip] = dict(zip(table.classes, probabilities, strict=True))
    if not rows or any(c.id not in found for found in rows.values() for c in clips):
        raise ValueError(f"{folder} lacks folds of some seed: finish `deiii crossval` first")
    labels = np.array([c.label for c in clips])
    classes = np.array(sorted(table.classes))  # those that no clip has can be predicted, too
    probabilities = np.array([[[r[c.id][k] for k in classes] for c in clips] for r in rows.values()])

    def hits(p):
        return classes[p.argmax(-1)] == labels

    network = {"seeds": hits(probabilities), "ensemble": hits(probabilities.mean(0, keepdims=True))}

    def recall(found: np.ndarray, some: np.ndarray) -> float:
        present = np.unique(labels[some])  # a class may be that of a single speaker
        return float(np.mean([found[..., some[labels[some] == name]].mean() for name in present]))

    result = {}
    for kind, svm in right.items():
        for name, found in network.items():

            def gaps(some: np.ndarray, svm: np.ndarray = svm, found: np.ndarray = found) -> list[float]:
                return [recall(of_seed, some) - recall(svm, some) for of_seed in found]

            gap = float(np.mean(gaps(np.arange(len(clips)))))
            difference = estimate([c.speaker for c in clips], gaps)
            interval = [round(x, 4) for x in difference.interval] if difference else []
            result[f"{name} - {kind}"] = {"gap": round(gap, 4), "of": len(rows), "ci": interval}
            print(f"network ({name}) minus {kind}: {gap:+.3f}, 95 % {interval}")
    return result


def comparable(folder: Path, right: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the simple models that use statistics of the test speakers if the networks do, and no others.

    Args:
        folder: folder of ``deiii crossval``.
        right: bool [N], keyed by the model's name, which contains "speaker" if its features are
            standardised by speaker.

    Raises:
        ValueError: the folder holds no run.
    """
    runs = sorted(folder.glob("fold*-seed*/config.yaml"))
    if not runs:
        raise ValueError(f"{folder} holds no run: finish `deiii crossval` first")
    told = RunFolder(runs[0].parent).read_config().loader.normalise == "speaker"
    return {name: hits for name, hits in right.items() if ("speaker" in name) == told}


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", help="JSON file for the result")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a finished crossval to compare with")
    args = parser.parse_args()
    config = read_settings(["configs/ravdess_audio.yaml", *args.settings])
    corpus = scan(config.corpus)
    x = all_functionals(corpus, Path(config.cache), args.workers)
    y = np.array([corpus.classes.index(c.label) for c in corpus.clips])
    speakers = np.array([c.speaker for c in corpus.clips])
    place = {c.id: n for n, c in enumerate(corpus.clips)}
    result: dict = {"bench": "ravdess_svm", "functionals": x.shape[1], **made_by()}
    right = {}
    for name, values in (("plain", x), ("speaker_normalised", by_speaker(x, speakers))):
        folds, right[name] = [], np.zeros(len(y), bool)
        for fold in range(number_of_folds(corpus, config.split)):
            config.split.fold = fold
            split = make_split(corpus, config.split)
            rows = {p: np.array([place[i] for i in getattr(split, p)]) for p in ("train", "val", "test")}
            found = run_fold(values, y, rows)
            right[name][rows["test"]] = found.pop("guess") == y[rows["test"]]
            folds.append({"fold": fold, "split": split.digest[:12], **found})
            print(name, "fold", " ".join(f"{k} {v}" for k, v in folds[-1].items()), flush=True)
        scores = [f["test_uar"] for f in folds]
        mean, sd = float(np.mean(scores)), float(np.std(scores, ddof=1))
        result[name] = {"uar": round(mean, 4), "sd": round(sd, 4), "folds": folds}
        print(f"{name}: UAR {mean:.3f}, sd {sd:.3f} over folds")
    if args.against:
        result["network_minus_svm"] = against(args.against, corpus.clips, comparable(args.against, right))
    if args.out:
        write_json(args.out, result)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
