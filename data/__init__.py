"""Code that preprocessing and training share: clips, corpora, splits, shards, the loader."""

if __name__ != "deiii.data":  # a second copy under a bare name would have classes of its own
    raise ImportError(f"import deiii.data instead of {__name__}")
