"""Choice of the winner of a study: its student, its confirmation, and making it again."""
