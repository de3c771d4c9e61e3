"""What a user writes: the recipe as one typed object."""
