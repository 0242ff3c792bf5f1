"""Parts of networks that take few launches on a GPU, where the processor starts kernels one by one."""
