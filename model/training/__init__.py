"""The trainer: loss, optimiser, checkpoints and the run folder."""
