"""What a run on a Dask cluster of several machines needs of its workers and its scheduler."""
