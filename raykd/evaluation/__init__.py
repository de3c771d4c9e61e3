"""Task data, predictions, metrics, and the baselines that need no distillation."""
