"""Report the mel bands of the configured spectrogram that contain no frequency, before any clip is read."""

from __future__ import annotations

from deiii.data.config.schema import Config
from deiii.data.tools.counts import counted
from deiii.pipeline.logmel.stage import sizes

FINE = 4  # FFT samples a band from which on every band holds a frequency; below, librosa checks the bands


def note_on_bands(config: Config) -> str:
    """Return a note for users on mel bands that hold no frequency or are cut; empty if there is none.

    >>> note_on_bands(Config())
    ''
    """
    c = config.logmel
    highest = c.sample_rate / 2
    notes = []
    if c.fmax > highest:
        notes.append(
            f"logmel.fmax={c.fmax:g} is above half of logmel.sample_rate={c.sample_rate}; the bands end at "
            f"{highest:g} Hz"
        )
    n_fft = sizes(c)[0]
    if FINE * c.n_mels > n_fft:
        import warnings

        from deiii.data.tools.compilation.librosa_loading import load_librosa

        with warnings.catch_warnings():
            # Librosa warns about empty bands, which are counted here.
            warnings.simplefilter("ignore", UserWarning)
            filters = load_librosa().filters.mel(
                sr=c.sample_rate, n_fft=n_fft, n_mels=c.n_mels, fmin=c.fmin, fmax=min(c.fmax, highest)
            )
        if empty := int((filters == 0).all(axis=1).sum()):
            hold = "holds" if empty == 1 else "hold"
            notes.append(
                f"{empty} of {counted(c.n_mels, 'mel band')} {hold} no frequency; use fewer logmel.n_mels "
                "or a longer logmel.window_ms"
            )
    return "; ".join(notes)
