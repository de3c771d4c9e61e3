"""Teacher and student, whatever their family, behind one output."""
