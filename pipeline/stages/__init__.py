"""What a worker does: one shard of one stage, clip by clip, within limits."""
