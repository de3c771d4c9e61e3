"""Evaluation: predictions, costs, student-teacher comparison, baselines without distillation."""
