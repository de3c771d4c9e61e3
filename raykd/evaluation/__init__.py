"""Predictions, costs, students compared with their teachers, baselines without distillation."""
