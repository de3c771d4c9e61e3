"""Text that ingest leaves out of a corpus: limits, and lines for the user."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from raykd import progress
from raykd.corpus.config import CorpusConfig
from raykd.corpus.rows import QUOTES_COUNTS
from raykd.corpus.shards import QUARANTINE_FILE, check_empty, quarantined_rows
from raykd.errors import InputError

_NUM_SHOWN = 5


def check_counts(
    counts: Mapping[str, float], config: CorpusConfig, shards: Sequence[Path], where: str
) -> None:
    """Check what ingest left out against the limits of `config`.

    Args:
        counts: counts of all shards.
        config: settings with the limits.
        shards: directories of the shards, with their quarantine tables.
        where: source of the corpus, for errors.

    Raises:
        InputError: there is no text or no unit, or more was left out than is allowed.
    """
    num_bad = int(counts["num_quarantined"])
    num_rows = int(counts["num_documents"]) + num_bad
    num_empty = int(counts["num_empty"])
    check_empty(config.empty, num_empty, num_rows + num_empty, shards, "empty: skip")
    if num_rows == 0:
        problem = f"each of its {num_empty:,} documents is" if num_empty else "the corpus is"
        raise InputError(f"{where}: {problem} empty; give files with text")
    if num_bad > config.max_bad_fraction * num_rows:
        shown = "; ".join(islice(quarantined_rows(shards), _NUM_SHOWN))
        raise InputError(
            f"{num_bad} of {num_rows} rows cannot be read, more than max_bad_fraction = "
            f"{config.max_bad_fraction} of them. The first: {shown}. "
            f"All are listed in {shards[0].parent}/shard-*/{QUARANTINE_FILE}. "
            "Correct the rows, or raise max_bad_fraction to continue without them"
        )
    if counts["num_units"] == 0:
        raise InputError(
            f"{where}: every piece of text has fewer than units.min_words = "
            f"{config.units.min_words} words; lower it, or choose units.policy line"
        )
    num_dropped, num_documents = int(counts["num_dropped_documents"]), int(counts["num_documents"])
    if num_dropped > config.max_dropped_fraction * num_documents:
        raise InputError(
            f"{where}: {num_dropped:,} of {num_documents:,} documents are dropped, more than "
            f"max_dropped_fraction = {config.max_dropped_fraction}: none of their pieces has "
            f"units.min_words = {config.units.min_words} words. Lower units.min_words, choose "
            "units.policy line, or raise max_dropped_fraction to leave these documents out"
        )


def _losses(counts: Mapping[str, float]) -> list[str]:
    """Describe the dropped rows, documents and pieces, with their counts."""
    num_documents = int(counts["num_documents"])
    reasons = (
        ("num_quarantined", f"rows that cannot be read, listed in each shard's {QUARANTINE_FILE}"),
        ("num_empty", "empty documents"),
        ("num_dropped_documents", f"of {num_documents:,} documents, all pieces too short"),
        ("num_dropped_short", "pieces with fewer than units.min_words words"),
    )
    return [f"{int(counts[name]):,} {reason}" for name, reason in reasons if counts[name]]


def report_counts(counts: Mapping[str, float]) -> None:
    """Print what ingest left out, and how it took quotation marks."""
    if lines := _losses(counts):
        progress.say(f"corpus: left out: {'; '.join(lines)}")
    removed, kept = (int(counts[name]) for name in QUOTES_COUNTS)
    if removed:
        progress.say(
            f"corpus: TSV files whose quotation marks enclose fields: {removed:,} (quoting: none "
            "keeps them as text)"
        )
    if kept:
        progress.say(
            f"corpus: TSV files whose quotation marks are kept as text: {kept:,} (quoting: "
            "standard removes them)"
        )
