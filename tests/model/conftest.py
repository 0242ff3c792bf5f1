"""One thread: these networks are too small to share, and several test runs may share a machine."""

import torch

torch.set_num_threads(1)
