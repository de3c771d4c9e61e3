"""Final messages of `raykd search`, `dedup` and `predict`: counts and output files."""

from pathlib import Path

import pyarrow.parquet as pq

from raykd.storage.manifest import Manifest
from raykd.storage.remote.output import below, url_of


def of_search(out: Path, folder: Path, manifest: Manifest) -> str:
    """Summarize a search from the manifest of `retrieval.pipeline.search_files`.

    Args:
        out: path or URL of the output.
        folder: its path, or that of its local copy.
        manifest: its manifest.
    """
    counts = manifest.counts
    lines = [
        f"{_shown(out, 'hits.parquet')}: {counts['num_hits']:,.0f} hits of "
        f"{counts['num_queries']:,.0f} queries in {counts['num_units']:,.0f} units"
    ]
    if counts["num_empty_queries"]:
        lines.append(f"empty queries (no searchable terms): {counts['num_empty_queries']:,.0f}")
    return "\n".join([*lines, *_notes(manifest), *_unreadable_rows(out, folder)])


def of_dedup(out: Path, folder: Path, manifest: Manifest) -> str:
    """Summarize a deduplication from the manifest of `dedup.pipeline.dedup`; see `of_search`."""
    counts = manifest.counts
    removed = counts["num_units_read"] - counts["num_units"]
    lines = [
        f"{_shown(out, 'units')}: {counts['num_units']:,.0f} of "
        f"{counts['num_units_read']:,.0f} units",
        f"{_shown(out, 'removed.parquet')}: {removed:,.0f} removed units: "
        f"duplicates {counts['num_exact_duplicates']:,.0f}, "
        f"near duplicates {counts['num_near_duplicates']:,.0f}",
    ]
    return "\n".join([*lines, *_notes(manifest), *_unreadable_rows(out, folder)])


def of_predict(out: Path, manifest: Manifest) -> str:
    """Summarize predictions from the manifest of `prediction.pipeline.predict_files`."""
    counts = manifest.counts
    num_rows, num_predicted = counts["num_rows"], counts["num_rows"] - counts["num_without_text"]
    num_files = sum(name.startswith("part-") for name in manifest.outputs)
    files = "1 file" if num_files == 1 else f"{num_files:,} files"
    lines = [f"{_shown(out, 'part-*.parquet')}: {num_rows:,.0f} rows in {files}"]
    lines += [
        f"  {label}: {number:,.0f} ({number / max(num_predicted, 1):.1%})"
        for name, number in counts.items()
        if (label := name.removeprefix("label.")) != name
    ]
    if counts["num_without_text"]:
        lines.append(f"without text, not predicted: {counts['num_without_text']:,.0f}")
    threshold = manifest.config["threshold"]
    if threshold is not None and not manifest.config.get("multi_label"):
        number = counts["num_uncertain"]
        share = number / max(num_predicted, 1)
        lines.append(f"uncertain, below {threshold:.4g}: {number:,.0f} ({share:.1%})")
    if counts["num_quarantined"]:
        place = _shown(out, "quarantine.parquet")
        lines.append(f"{place}: unreadable rows: {counts['num_quarantined']:,.0f}")
    lines += _notes(manifest)
    rate = num_rows / max(counts["task_s"], 1e-3)
    lines.append(f"{rate:,.0f} rows per second of a task, {counts['task_s']:,.0f} s in all")
    return "\n".join(lines)


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


def _unreadable_rows(out: Path, folder: Path) -> list[str]:
    number = pq.read_metadata(folder / "quarantine.parquet").num_rows
    return [f"{_shown(out, 'quarantine.parquet')}: unreadable rows: {number:,}"] if number else []


def _shown(out: Path, name: str) -> str:
    return below(url_of(out) or str(out), name)
