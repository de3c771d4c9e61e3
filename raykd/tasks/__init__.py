"""The data of a task: examples, labels, metrics, and the eight tasks of GLUE."""
