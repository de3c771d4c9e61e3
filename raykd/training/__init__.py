"""Teacher, injection and adaptation: one loop, whatever the objective."""
