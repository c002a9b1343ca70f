"""Who is told while a run goes on: terminal, metrics.jsonl, TensorBoard."""
