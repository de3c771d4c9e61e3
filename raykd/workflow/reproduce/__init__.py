"""Reproduction of a table of a paper: one run per method and task, side by side with the paper."""
