"""From caches to batches: opening features, sampling, augmentation, prefetching."""
