"""What `raykd search` and `raykd dedup` answer: a sentence, and where the files stand."""

from pathlib import Path

import pyarrow.parquet as pq

from raykd.storage.manifest import Manifest


def of_search(out: Path, manifest: Manifest) -> str:
    """The answer of `raykd search`, from the manifest of `retrieval.pipeline.search_files`."""
    counts = manifest.counts
    lines = [
        f"{out / 'hits.parquet'}: {counts['num_hits']:,.0f} hits of {counts['num_queries']:,.0f} "
        f"queries in {counts['num_units']:,.0f} units"
    ]
    if counts["num_empty_queries"]:
        lines.append(f"queries without a word to search for: {counts['num_empty_queries']:,.0f}")
    return "\n".join([*lines, *_left_out(manifest), *_bad_rows(out)])


def of_dedup(out: Path, manifest: Manifest) -> str:
    """The answer of `raykd dedup`, from the manifest of `dedup.pipeline.dedup`."""
    counts = manifest.counts
    removed = counts["num_units_read"] - counts["num_units"]
    lines = [
        f"{out / 'units'}: {counts['num_units']:,.0f} of {counts['num_units_read']:,.0f} units",
        f"{out / 'removed.parquet'}: the other {removed:,.0f}: "
        f"duplicates {counts['num_exact_duplicates']:,.0f}, "
        f"near duplicates {counts['num_near_duplicates']:,.0f}",
    ]
    return "\n".join([*lines, *_left_out(manifest), *_bad_rows(out)])


def _left_out(manifest: Manifest) -> list[str]:
    """What of the files was not searched or compared, where there is any."""
    words = {
        "num_duplicate_files": "files equal to others, not read",
        "num_empty": "empty documents, left out",
        "num_odd_titles": "titles that are no text (numbers are kept, other values ignored)",
    }
    return [
        f"{text}: {number:,.0f}"
        for name, text in words.items()
        if (number := manifest.counts.get(name, 0))
    ]


def _bad_rows(out: Path) -> list[str]:
    path = out / "quarantine.parquet"
    number = pq.read_metadata(path).num_rows
    return [f"{path}: rows that could not be read: {number:,}"] if number else []
