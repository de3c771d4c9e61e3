"""A run's teacher where it is a file of scores."""
