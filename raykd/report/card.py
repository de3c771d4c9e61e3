"""The corpus card as lines of text, one column a corpus."""

from typing import Any

from raykd.corpus_card import CorpusCard
from raykd.report.scores import NOTHING


def card_table(cards: list[CorpusCard]) -> list[list[tuple[str, list[str]]]]:
    """The corpus card in three groups of lines: a title, and the figure of each corpus."""
    searches = [card.search for card in cards]
    texts = [card.text for card in cards]
    words = _shared("on {} words", [text.num_distinct_words for text in texts])
    vocabulary = _shared("{} most frequent words", [text.num_vocabulary_words for text in texts])
    groups: list[list[tuple[str, list[Any]]]] = [
        [
            ("Anchors searched for", [search and search.num_anchors for search in searches]),
            (
                "Anchors without a query",
                [search and search.num_empty_queries for search in searches],
            ),
            (
                "Anchors searched as a whole, for want of keywords",
                [search and search.num_fallback_queries for search in searches],
            ),
            ("Hits an anchor, at most", [search and search.top_k for search in searches]),
            ("Hits", [card.num_hits for card in cards]),
            ("Different units to choose from", [card.num_candidates for card in cards]),
            ("General rows that could not be read", [card.num_quarantined for card in cards]),
        ],
        [
            ("Removed: duplicates", [card.num_duplicates for card in cards]),
            ("Removed: hold an evaluation sentence", [card.num_leaks for card in cards]),
            ("Left out beyond the limit", [card.num_beyond_limit for card in cards]),
            ("Missing to the limit", [card.num_missing for card in cards]),
            ("Rank of the last unit kept", [card.max_rank for card in cards]),
            ("Units kept a hit", [card.kept_fraction for card in cards]),
        ],
        [
            ("Units", [card.num_units for card in cards]),
            ("Bytes of text", [card.num_bytes for card in cards]),
            ("Bytes a unit", [card.bytes_per_unit for card in cards]),
            (f"Distinct-1, {words}", [text.distinct_1 for text in texts]),
            (f"Distinct-2, {words}", [text.distinct_2 for text in texts]),
            (
                f"Shared with the task of the {vocabulary}",
                [text.vocabulary_overlap for text in texts],
            ),
        ],
    ]
    return [
        [(title, [_figure(value) for value in values]) for title, values in lines]
        for lines in groups
    ]


def _shared(title: str, sizes: list[int]) -> str:
    """The size of the samples; where they differ the figures cannot be compared, which it says."""
    if len(set(sizes)) == 1:
        return title.format(_figure(sizes[0]))
    return title.format(" / ".join(map(_figure, sizes))) + " (not comparable)"


def _figure(value: float | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
