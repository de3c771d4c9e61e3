"""Training of teachers and students: one loop for all objectives."""
