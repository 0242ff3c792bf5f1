"""Test the audit of splits: it must find known leaks, and must raise no alarm on clean splits.

    python -m benchmarks.audit [--emobox FOLDER]

Leaks: EmoBox's CREMA-D fold 1, which shares 91 of 91 actors; lists whose validation part is the test part
(as HiCMAE's of MSP-IMPROV); the files 01 and 03 of a RAVDESS code in two parts; recordings that were encoded
anew and given other names and speakers, by audio and by the movement of the face. Clean: every fold of
deiii's other protocols, and synthetic clips of different speakers by audio and face.

With ``--emobox`` the lists are read from a clone of https://github.com/emo-box/EmoBox, not from the protocol.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from benchmarks.machine import describe
from deiii.data.audit.audit import Audit, Prints, audit_parts
from deiii.data.audit.fingerprints import audio_print, face_print
from deiii.data.audit.lists import read_lists
from deiii.data.audit.names import Facts, corpus_of_names, facts_of
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config, SyntheticConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import load_protocol, match_clips, protocol_names
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.corpora.synthetic.make import make
from deiii.pipeline.extract import run_stages

SPEAKERS = {
    "ravdess": [f"actor-{i:02d}" for i in range(1, 25)],
    "crema_d": [str(i) for i in range(1001, 1092)],
    "msp_improv": [f"{sex}{i:02d}" for i in range(1, 7) for sex in "FM"],
    "iemocap": [f"Ses{i:02d}{sex}" for i in range(1, 6) for sex in "FM"],
    "speakers": [f"speaker{i}" for i in range(20)],
}
SESSIONS = {"msp_improv": slice(1, None), "iemocap": slice(0, 5)}  # place of the session in a speaker's name


def encode_again(source: Path, target: Path) -> None:
    """Encode a video again with lossy codecs at a low bit rate; its content stays the same."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        video = new.add_stream("mpeg4", rate=old.streams.video[0].average_rate or Fraction(25))
        video.width, video.height = old.streams.video[0].width, old.streams.video[0].height
        video.pix_fmt, video.bit_rate = "yuv420p", 400_000
        audio = new.add_stream("mp3", rate=44100, layout="mono")
        audio.bit_rate = 64_000
        resampler = av.AudioResampler(audio.format, "mono", 44100, 1152)
        for frame in old.decode(old.streams.video[0], old.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                new.mux(video.encode(frame.reformat(format="yuv420p")))
            else:
                for piece in resampler.resample(frame):
                    new.mux(audio.encode(piece))
        for piece in resampler.resample(None):
            new.mux(audio.encode(piece))
        new.mux(video.encode())
        new.mux(audio.encode())


def prints_of(files: Sequence[Path], config: Config) -> Prints:
    """Return the prints of media files, keyed by file name without suffix."""
    audio_prints, face_prints = {}, {}
    for file in files:
        results = run_stages(file, config, ["faces", "logmel"])
        audio, video = results["logmel"].arrays, results["faces"].arrays
        if audio and (found := audio_print(audio["logmel"], audio["time"])) is not None:
            audio_prints[file.stem] = found
        if video and (moved := face_print(video["frames"], video["valid"])) is not None:
            face_prints[file.stem] = moved
    return Prints(audio_prints, face_prints)


def by_names(kind: str, emobox: str | None, folder: Path) -> Audit:
    """Return the audit of lists of names with one known leak."""
    if kind == "EmoBox CREMA-D":
        protocol = read_lists(Path(emobox) / "data/cremad") if emobox else load_protocol("crema_d-emobox")
        corpus = corpus_of_names(protocol, "crema_d")
        if corpus is None:
            raise SystemExit("the lists of EmoBox do not name CREMA-D clips")
        parts = match_clips(corpus, protocol, 0)
        return audit_parts({p: [facts_of(c.path, "crema_d") for c in clips] for p, clips in parts.items()})
    if kind == "validation equal to test":
        lists = {"train": ["F01", "M01", "F02", "M02"], "val": ["F03", "M03"], "test": ["F03", "M03"]}
        for part, speakers in lists.items():
            lines = [f"MSP-IMPROV-S01A-{s}-P-{s[0]}{s[0]}01.avi,0" for s in speakers]
            (folder / f"{part}.csv").write_text("\n".join(lines), encoding="utf-8")
        protocol = read_lists(folder)
        return audit_parts({p: [facts_of(n, "msp_improv") for n in protocol.parts[0][p]] for p in lists})
    one, other = "01-01-05-01-01-01-01.mp4", "03-01-05-01-01-01-01.wav"
    return audit_parts({"train": [facts_of(one, "ravdess")], "test": [facts_of(other, "ravdess")]})


def clean_protocols() -> Iterator[tuple[str, Audit]]:
    """Yield the audit of every fold of the protocols that divide speakers."""
    for name in protocol_names():
        protocol = load_protocol(name)
        if protocol.foreign:
            continue
        kind = name.split("-")[0]
        session = SESSIONS.get(kind)
        clips = [
            Clip(f"{s}-{i}", f"{s}-{i}.mp4", s, "ab"[i], fold=s[session] if session else None)
            for s in SPEAKERS.get(kind, SPEAKERS["speakers"])  # others are for any corpus
            for i in range(2)
        ]
        corpus = Corpus(kind, ".", ("a", "b"), tuple(clips), protocol=name)
        settings = load_config().split
        for fold in range(number_of_folds(corpus, settings)):
            split = make_split(corpus, replace(settings, fold=fold))
            facts = {c.id: Facts(c.id, c.id, c.speaker, label=c.label or "") for c in clips}
            parts = {part: [facts[i] for i in getattr(split, part)] for part in ("train", "val", "test")}
            yield f"{name} fold {fold}", audit_parts(parts)


def by_content(folder: Path) -> tuple[Audit, Audit]:
    """Return the audits of clips that were encoded again under other names, and of different speakers."""
    drawn = SyntheticConfig(speakers=4, clips_per_class=1, seconds=1.6, size=160)
    make(folder / "drawn", drawn, workers=1, progress=False)
    files = sorted((folder / "drawn").rglob("*.mp4"))
    train, test = files[:16:2], files[16::2]
    copies = [folder / f"new{number}.mkv" for number in range(3)]
    for source, target in zip(train, copies, strict=False):
        encode_again(source, target)
    prints = prints_of([*train, *test, *copies], load_config(["synthetic", "tiny"]))
    here = [Facts(p.stem, p.stem, p.stem.split("-")[0]) for p in train]
    there = [Facts(p.stem, p.stem, p.stem.split("-")[0]) for p in test]
    renamed = [Facts(p.stem, p.stem, f"someone{n}") for n, p in enumerate(copies)]
    leaking = audit_parts({"train": here, "test": [*there, *renamed]}, prints)
    return leaking, audit_parts({"train": here, "test": there}, prints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emobox", metavar="FOLDER", help="a clone of EmoBox")
    options = parser.parse_args()
    found: list[str] = []
    missed: list[str] = []
    false_alarms: list[str] = []

    def expect(what: str, audit: Audit, kind: str, count: int) -> None:
        right = any(f.leak and f.kind == kind and f.count == count for f in audit.findings)
        (found if right else missed).append(what)
        print(f"{'found' if right else 'MISSED'}: {what}")
        print("\n".join(f"    {line}" for line in audit.text().splitlines()))

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "lists").mkdir()
        for what, kind, count in (
            ("EmoBox CREMA-D", "speakers", 91),
            ("validation equal to test", "equal", 2),
            ("one take in two RAVDESS files", "takes", 1),
        ):
            expect(what, by_names(what, options.emobox, folder / "lists"), kind, count)
        leaking, clean = by_content(folder)
        expect("recordings under other names, by audio", leaking, "sound", 3)
        expect("recordings under other names, by face", leaking, "face", 3)
    for what, audit in [*clean_protocols(), ("synthetic clips of different speakers", clean)]:
        if audit.leaks:
            false_alarms.append(what)
            print(f"FALSE ALARM: {what}\n{audit.text()}")
    print(json.dumps(describe("av", "numpy")))
    result = {"bench": "audit", "found": len(found), "known": len(found) + len(missed)}
    print("RESULT " + json.dumps({**result, "false_alarms": len(false_alarms)}))
    raise SystemExit(bool(missed or false_alarms))


if __name__ == "__main__":
    main()
