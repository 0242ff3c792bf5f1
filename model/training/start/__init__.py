"""The start of a training: its checks, its data, and the weights and clips of the run that it starts from."""
