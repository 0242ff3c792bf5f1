"""The logmel stage: log-mel spectrograms of the audio."""
