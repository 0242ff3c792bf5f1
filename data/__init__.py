"""What preprocessing and training share: clips, corpora, splits, shards, the loader."""
