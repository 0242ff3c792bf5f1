"""DE-III: network, training, evaluation, prediction."""

if __name__ != "deiii.model":  # a second copy under a bare name would have classes of its own
    raise ImportError(f"import deiii.model instead of {__name__}")
