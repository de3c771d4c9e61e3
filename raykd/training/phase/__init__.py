"""A phase of training: its settings, its job, and how it is run."""
