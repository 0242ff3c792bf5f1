"""``deiii sweep``: train with many settings, choose by validation scores; test speakers are never read."""
