"""The Dask graph that fills the caches: survey, plan, clusters, summary."""
