"""Score changes of the preset ``base`` on validation speakers of RAVDESS's voices; no test speaker is scored.

The preset's audio part alone is trained from scratch: the recordings have no video. Each trial trains each
fold once and takes the validation UAR of its last epoch. Finished runs are kept: run the command again to
continue.

    python -m benchmarks.preset_trials configs/base.yaml $VOICES train.monitor=last train.epochs=30 \\
        --folds 0,1 --out trials.json

where VOICES names the recordings and leaves out what base does not read::

    VOICES="corpus.name=ravdess corpus.root=/clips corpus.modality=audio-only corpus.channel=speech
        split.protocol=ravdess-6fold split.val_share=0.1 stages=[logmel] logmel.n_mels=40 logmel.trim_db=40
        model.video=false model.flow=false"
"""

from __future__ import annotations

from benchmarks.video_trials import arguments, work

FIRST = [
    "loader.normalise=none", "loader.spec_masks=2",
    "loader.stretch=0", "loader.mel_shift=0", "loader.mel_warp=0", "loader.gain_db=0",
]  # fmt: skip
TRIALS: dict[str, list[str]] = {
    "as it is": [],
    "two convolutions": ["model.audio_channels=[]"],  # as the preset was until 1 December 2026
    "as the preset was at first": ["model.audio_channels=[]", *FIRST],
}


def main() -> None:
    work(arguments(__doc__ or "", "runs/preset_trials"), TRIALS, "preset_trials")


if __name__ == "__main__":
    main()
