"""Logging of steps and scores, to files and experiment trackers."""
