"""Report of a run or of a tuning study: a self-contained HTML page, readable offline."""
