"""Whether ``deiii.json`` has the entries that prediction reads, and describes the network beside it."""
