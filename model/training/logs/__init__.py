"""Records of a training beside ``metrics.csv``: TensorBoard, Weights & Biases, MLflow, and what it cost."""
