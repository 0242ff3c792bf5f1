"""Parts of networks with few kernel launches on a GPU, because each launch takes time of the CPU."""
