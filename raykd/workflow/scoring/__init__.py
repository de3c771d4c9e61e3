"""Evaluations of a run's models, and the calibration of its student."""
