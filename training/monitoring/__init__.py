"""Reports during a run: terminal, metrics.jsonl, TensorBoard."""
