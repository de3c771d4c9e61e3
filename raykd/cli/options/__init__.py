"""Parameters and option groups that several commands share."""
