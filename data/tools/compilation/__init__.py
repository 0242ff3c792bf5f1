"""Functions that Numba compiles: those of this project, and those of librosa."""
