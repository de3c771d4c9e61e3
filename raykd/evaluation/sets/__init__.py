"""Evaluation sets: labeled rows besides the task's splits, with classes of their own if any."""
