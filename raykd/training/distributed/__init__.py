"""Distributed training: settings, placement and gradient all-reduce."""
