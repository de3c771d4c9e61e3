"""Teacher and student models of all families, with a common interface."""
