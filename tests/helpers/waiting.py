"""How long tests wait for another process before they fail."""

PATIENCE_S = 120  # not a limit of deiii: a busy machine may take this long to start or to end a process
