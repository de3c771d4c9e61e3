"""Task data, predictions, metrics, students beside teachers, baselines without distillation."""
