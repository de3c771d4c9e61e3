"""Creation of students: shape and initial weights."""
