"""Results -> one self-contained HTML page, readable offline and without JavaScript."""

from raykd.report.page import FILE_NAME, render, write_report

__all__ = ["FILE_NAME", "render", "write_report"]
