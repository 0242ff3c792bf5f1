"""Processes of this machine: signals, worker pools, scripts without a main guard, freed memory."""
