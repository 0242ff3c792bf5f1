"""From a batch to features: what DE-III and its peers have in common."""
