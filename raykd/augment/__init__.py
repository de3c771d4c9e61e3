"""A task's rows -> more of them, with some words replaced."""
