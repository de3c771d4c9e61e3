"""Labels of a task: reading of cells, rules, checks, and sets of classes."""
