"""One optimiser step, and the ways to launch it on a GPU."""
