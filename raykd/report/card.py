"""The corpus card as lines of text, one column a corpus."""

from typing import Any

from raykd.contextualize.card import CorpusCard, SearchFacts
from raykd.report.results import CorpusFacts
from raykd.report.scores import NOTHING


def card_table(cards: list[CorpusCard]) -> list[list[tuple[str, list[str]]]]:
    """How the corpora came about, in groups of lines: a title, and the figure of each corpus."""
    searches = [card.search for card in cards]
    limits: list[tuple[str, list[Any]]] = [
        ("Units wanted", [card.max_units for card in cards]),
        ("Bytes wanted", [card.target_bytes for card in cards]),
        ("Ranks wanted, in percent", [card.top_percent for card in cards]),
    ]
    groups: list[list[tuple[str, list[Any]]]] = [
        [
            *_rankers(searches),
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
            ("Hits an anchor that were used", [card.k for card in cards]),
            ("Hits", [card.num_hits for card in cards]),
            ("Different units to choose from", [card.num_candidates for card in cards]),
            ("General rows that could not be read", [card.num_quarantined for card in cards]),
            *_unless_zero("Empty general documents", [card.num_empty for card in cards]),
            *_unless_zero(
                "General documents left out, all pieces too short",
                [card.num_dropped_documents for card in cards],
            ),
            *_unless_zero(
                "General pieces left out as too short", [card.num_dropped_short for card in cards]
            ),
        ],
        [
            ("Removed: duplicates", [card.num_duplicates for card in cards]),
            *_unless_zero("Removed: near duplicates", [card.num_near_duplicates for card in cards]),
            *_leaks(cards),
            *((title, values) for title, values in limits if any(values)),
            ("Left out beyond the limit", [card.num_beyond_limit for card in cards]),
            ("Missing units", [card.num_missing for card in cards]),
            *_unless_zero("Missing bytes", [card.num_missing_bytes for card in cards]),
            ("Rank of the last unit kept", [card.max_rank for card in cards]),
            ("Units kept a hit", [card.kept_fraction for card in cards]),
        ],
    ]
    return [
        [(title, [_figure(value) for value in values]) for title, values in lines]
        for lines in groups
    ]


def text_table(corpora: list[CorpusFacts]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """What the texts are like: the columns' titles; lines of a title and the columns' figures.

    The general corpus and the task's sentences stand beside the corpora.
    """
    cards = [corpus.card for corpus in corpora]
    generals = {corpus.general: corpus.card.general for corpus in corpora}
    task = cards[-1].task
    sizes = [
        *((card.num_units, card.num_bytes) for card in cards),
        *((side.num_units, side.num_bytes) for side in (*generals.values(), task)),
    ]
    texts = [
        *(card.text for card in cards),
        *(general.text for general in generals.values()),
        task.text,
    ]
    words = _shared("on {} words", [text.num_words for text in texts])
    vocabulary = _shared("{} most frequent words", [text.num_vocabulary_words for text in texts])
    content = _shared(
        "{} most frequent words without stop words",
        [text.num_content_vocabulary_words for text in texts],
    )
    general = "Shared with the general corpus of the"
    lines: list[tuple[str, list[Any]]] = [
        ("Units", [num_units for num_units, _ in sizes]),
        ("Bytes of text", [num_bytes for _, num_bytes in sizes]),
        ("Bytes a unit", [num_bytes / max(1, num_units) for num_units, num_bytes in sizes]),
        (f"Distinct-1, {words}", [text.distinct_1 for text in texts]),
        (f"Distinct-2, {words}", [text.distinct_2 for text in texts]),
        (f"Shared with the task of the {vocabulary}", [text.task_overlap for text in texts]),
        (f"Shared with the task of the {content}", [text.content_task_overlap for text in texts]),
        (f"{general} {vocabulary}", [text.general_overlap for text in texts]),
        (f"{general} {content}", [text.content_general_overlap for text in texts]),
    ]
    titles = [
        *(corpus.title for corpus in corpora),
        *(f"general corpus {name}".rstrip() for name in generals),
        "task\N{RIGHT SINGLE QUOTATION MARK}s sentences",
    ]
    return titles, [(title, [_figure(value) for value in values]) for title, values in lines]


def _rankers(searches: list[SearchFacts | None]) -> list[tuple[str, list[str | None]]]:
    """Nothing where all were searched by BM25, as most are."""
    models = [search.model if search else None for search in searches]
    if not any(models):
        return []
    rankers = [search.ranker if search else None for search in searches]
    return [("Searched by", rankers), ("Model of the embeddings", models)]


def _unless_zero(title: str, values: list[int]) -> list[tuple[str, list[int]]]:
    return [(title, values)] if any(values) else []


def _leaks(cards: list[CorpusCard]) -> list[tuple[str, list[int | None]]]:
    """Units that hold evaluation sentences, for each way to treat them, and words shared in a row.

    A corpus that was treated another way has no figure.
    """
    lines: list[tuple[str, list[int | None]]] = []
    for policy, verb in (("remove", "Removed"), ("keep", "Kept")):
        treated = [card for card in cards if card.leaks == policy]
        if treated:
            values = [card.num_leaks if card.leaks == policy else None for card in cards]
            lines.append((f"{verb}: hold an evaluation sentence", values))
        for size in sorted({card.leak_ngram for card in treated if card.leak_ngram}):
            counted = [card.num_leaked_ngrams if card.leaks == policy else None for card in cards]
            lines.append((f"{verb}: share {size} words in a row with one", counted))
    return lines


def _shared(title: str, sizes: list[int]) -> str:
    """The size of the samples; where they differ the figures cannot be compared, which it says."""
    if len(set(sizes)) == 1:
        return title.format(_figure(sizes[0]))
    return title.format(" / ".join(map(_figure, dict.fromkeys(sizes)))) + " (not comparable)"


def _figure(value: float | str | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
