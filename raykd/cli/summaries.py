"""Final messages of `raykd search` and `raykd dedup`: counts and output files."""

from pathlib import Path

import pyarrow.parquet as pq

from raykd.storage.manifest import Manifest


def of_search(out: Path, manifest: Manifest) -> str:
    """Summarize a search from the manifest of `retrieval.pipeline.search_files`."""
    counts = manifest.counts
    lines = [
        f"{out / 'hits.parquet'}: {counts['num_hits']:,.0f} hits of {counts['num_queries']:,.0f} "
        f"queries in {counts['num_units']:,.0f} units"
    ]
    if counts["num_empty_queries"]:
        lines.append(f"empty queries (no searchable terms): {counts['num_empty_queries']:,.0f}")
    return "\n".join([*lines, *_notes(manifest), *_unreadable_rows(out)])


def of_dedup(out: Path, manifest: Manifest) -> str:
    """Summarize a deduplication from the manifest of `dedup.pipeline.dedup`."""
    counts = manifest.counts
    removed = counts["num_units_read"] - counts["num_units"]
    lines = [
        f"{out / 'units'}: {counts['num_units']:,.0f} of {counts['num_units_read']:,.0f} units",
        f"{out / 'removed.parquet'}: {removed:,.0f} removed units: "
        f"duplicates {counts['num_exact_duplicates']:,.0f}, "
        f"near duplicates {counts['num_near_duplicates']:,.0f}",
    ]
    return "\n".join([*lines, *_notes(manifest), *_unreadable_rows(out)])


def _notes(manifest: Manifest) -> list[str]:
    """Count the skipped files and documents, and the cells that are not plain text, if any."""
    words = {
        "num_duplicate_files": "duplicate files skipped",
        "num_empty": "empty documents skipped",
        "num_odd_titles": "titles that are not text (numbers are kept, other values ignored)",
        "num_quotes_removed": "TSV files whose quotation marks enclose fields (--quoting none "
        "keeps them as text)",
        "num_quotes_kept": "TSV files whose quotation marks are kept as text (--quoting standard "
        "removes them)",
    }
    return [
        f"{text}: {number:,.0f}"
        for name, text in words.items()
        if (number := manifest.counts.get(name, 0))
    ]


def _unreadable_rows(out: Path) -> list[str]:
    path = out / "quarantine.parquet"
    number = pq.read_metadata(path).num_rows
    return [f"{path}: unreadable rows: {number:,}"] if number else []
