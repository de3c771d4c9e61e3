"""Recipe of a run, as one typed object."""
