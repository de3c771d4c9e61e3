"""Results of a tuning study: its trials, and the page that shows them."""
