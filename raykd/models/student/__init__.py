"""New students: their shape and their first weights."""
