"""Report of a run: a self-contained HTML page, readable offline and without JavaScript."""

from raykd.report.page import render

__all__ = ["render"]
