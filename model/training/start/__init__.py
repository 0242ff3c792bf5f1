"""Training that starts from the network of another run: what it copies, and whose clips that run has seen."""
