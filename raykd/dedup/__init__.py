"""Units of equal or nearly equal text."""
