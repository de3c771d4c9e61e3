"""Augmentation of a task's rows by word replacement (TaskDA)."""
