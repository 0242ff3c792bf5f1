"""The feature caches: stages, keys, shard files, their index, outcomes, codecs and checks."""
