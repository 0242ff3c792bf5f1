"""How long tests wait for another process before they fail."""

PATIENCE_S = 120  # no bound of the product: a busy machine may take this long to start or to end a process
