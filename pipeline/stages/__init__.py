"""The work of a worker: one shard of one stage, clip by clip, within limits."""
