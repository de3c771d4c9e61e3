"""Loss functions and their building blocks."""
