"""Output of a running sweep: a line per ended trial, and a table of the running ones."""
