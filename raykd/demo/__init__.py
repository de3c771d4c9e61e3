"""Text that is on every machine, for the quickstart."""
