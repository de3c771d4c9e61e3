"""Task data: examples, labels, metrics, and the eight GLUE tasks."""
