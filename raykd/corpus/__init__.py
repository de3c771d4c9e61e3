"""From files to retrieval units."""
