"""Raw corpora to feature caches: decode, faces, flow, log-mel, the Dask graph, outcomes."""

if __name__ != "deiii.pipeline":  # a second copy under a bare name would have classes of its own
    raise ImportError(f"import deiii.pipeline instead of {__name__}")
