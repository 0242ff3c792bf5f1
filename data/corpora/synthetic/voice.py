"""Synthesise the voice of a clip: harmonics of a gliding pitch, filtered by formants.

Source-filter synthesis (Fant, Acoustic Theory of Speech Production, 1960): a source of many harmonics, then
a resonator for each formant. The formants of the vowels are rounded from Peterson and Barney (J. Acoust.
Soc. Am. 24, 1952).
"""

from __future__ import annotations

import numpy as np

from deiii.data.corpora.synthetic.plan import ClipPlan, envelope

SAMPLE_RATE = 48000
HIGHEST = 7000.0  # Hz; no harmonic is higher
VOWELS = np.array(  # F1-F3 in Hz: i, e, a, o, u
    [[300, 2300, 3000], [530, 1850, 2500], [730, 1100, 2450], [570, 850, 2400], [310, 880, 2250]], float
)
BANDWIDTHS = (90.0, 120.0, 180.0)  # Hz


def pitch_contour(plan: ClipPlan, time: np.ndarray) -> np.ndarray:
    """Return the pitch in Hz at each time, NaN between bursts.

    Args:
        plan: plan of the clip.
        time: [n] in s.

    Returns:
        float64 [n].
    """
    pitch = np.full(len(time), np.nan)
    for (start, end), middle, slope in zip(plan.bursts, plan.pitch, plan.slope, strict=True):
        inside = (time >= start) & (time < end)
        phase = (time[inside] - start) / (end - start)
        pitch[inside] = middle * 2.0 ** (slope * (phase - 0.5))
    return pitch


def render_voice(plan: ClipPlan) -> np.ndarray:
    """Synthesise the audio of a clip: its voice and background noise.

    Returns:
        float32 [m], mono, at `SAMPLE_RATE`; full scale is 1.
    """
    time = np.arange(round(plan.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = np.zeros(len(time))
    for number, (start, end) in enumerate(plan.bursts):
        first, last = (int(np.ceil(edge * SAMPLE_RATE)) for edge in (start, end))
        here = time[first:last]
        burst = _harmonics(pitch_contour(plan, here), plan.speaker.tilt)
        for formant, bandwidth in zip(VOWELS[plan.vowels[number]], BANDWIDTHS, strict=True):
            burst = _resonate(burst, formant * plan.speaker.formant_scale, bandwidth)
        burst *= envelope(here, plan.bursts[number : number + 1])
        voice[first:last] = burst / np.sqrt(np.mean(burst**2))
    rng = np.random.default_rng([*plan.seed, 11])
    audio = 10 ** (plan.gain_db / 20) * voice + 10 ** (plan.hum_db / 20) * _room(rng, len(time))
    return np.clip(audio, -0.99, 0.99).astype(np.float32)


def _harmonics(pitch: np.ndarray, tilt: float) -> np.ndarray:
    """Return all harmonics below `HIGHEST`, the k-th with amplitude k**-tilt."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    # sin(kx) = 2 cos(x) sin((k-1)x) - sin((k-2)x) saves one sine for each harmonic.
    twice_cos = 2 * np.cos(phase)
    before = np.zeros_like(phase)
    now = np.sin(phase)
    total = now.copy()
    for k in range(2, int(HIGHEST / pitch.max()) + 1):
        before, now = now, twice_cos * now - before
        total += k**-tilt * now
    return total


def _resonate(audio: np.ndarray, frequency: float, bandwidth: float) -> np.ndarray:
    """Return a two-pole resonator with unit gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    a = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE), radius**2]
    return _filter([sum(a)], a, audio)


def _filter(b: list[float], a: list[float], audio: np.ndarray) -> np.ndarray:
    from scipy.signal import lfilter  # slow to import, and a corpus that is made already does not need it

    return lfilter(b, a, audio)


def _room(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return background noise: low-passed, of unit RMS."""
    noise = _filter([1.0], [1.0, -0.9], rng.standard_normal(n))
    return noise / np.sqrt(np.mean(noise**2))
