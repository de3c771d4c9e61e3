"""Tables of the corpus card, one column per corpus."""

from typing import Any

from raykd.contextualize.card import CorpusCard, SearchFacts
from raykd.report.results import CorpusFacts
from raykd.report.scores import NOTHING


def card_table(cards: list[CorpusCard]) -> list[list[tuple[str, list[str]]]]:
    """Groups of lines on the origin of the corpora: a title, and one value per corpus."""
    searches = [card.search for card in cards]
    limits: list[tuple[str, list[Any]]] = [
        ("Target: units", [card.max_units for card in cards]),
        ("Target: bytes", [card.target_bytes for card in cards]),
        ("Target: top percent of ranks", [card.top_percent for card in cards]),
    ]
    groups: list[list[tuple[str, list[Any]]]] = [
        [
            *_rankers(searches),
            ("Queries", [search and search.num_queries for search in searches]),
            (
                "Empty queries (no searchable terms)",
                [search and search.num_empty_queries for search in searches],
            ),
            (
                "Queries without RAKE keywords (full sentence used)",
                [search and search.num_fallback_queries for search in searches],
            ),
            ("Top-k per query", [search and search.top_k for search in searches]),
            ("Hits used per query", [card.k for card in cards]),
            ("Hits", [card.num_hits for card in cards]),
            (
                "Distinct units retrieved",
                [card.num_candidates if card.search else None for card in cards],
            ),
            ("Unreadable rows of the general corpus", [card.num_quarantined for card in cards]),
            *_unless_zero(
                "Empty documents of the general corpus", [card.num_empty for card in cards]
            ),
            *_unless_zero(
                "Documents dropped (all units too short)",
                [card.num_dropped_documents for card in cards],
            ),
            *_unless_zero("Units dropped (too short)", [card.num_dropped_short for card in cards]),
            *_unless_zero(
                "TSV files whose quotation marks enclose fields",
                [card.num_quotes_removed for card in cards],
            ),
            *_unless_zero(
                "TSV files whose quotation marks are kept as text",
                [card.num_quotes_kept for card in cards],
            ),
        ],
        [
            ("Removed: duplicates", [card.num_duplicates for card in cards]),
            *_unless_zero("Removed: near duplicates", [card.num_near_duplicates for card in cards]),
            *_leaks(cards),
            *((title, values) for title, values in limits if any(values)),
            ("Dropped beyond the target size", [card.num_beyond_limit for card in cards]),
            ("Units short of the target", [card.num_missing for card in cards]),
            *_unless_zero("Bytes short of the target", [card.num_missing_bytes for card in cards]),
            ("Rank of the last unit kept", [card.max_rank for card in cards]),
            ("Units kept per hit", [card.kept_fraction for card in cards]),
        ],
        _importance(cards),
    ]
    return [
        [(title, [_format(value) for value in values]) for title, values in lines]
        for lines in groups
        if lines
    ]


def text_table(corpora: list[CorpusFacts]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Text statistics: column titles, and lines of a title with one value per column.

    The columns are the corpora, their general corpora, and the task's sentences.
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
    with_task, with_general = "Shared with the task", "Shared with the general corpus"
    words = _with_sizes("on {} words", [text.num_words for text in texts])
    vocabulary = _with_sizes(
        "{} most frequent words", [text.num_vocabulary_words for text in texts]
    )
    content = _with_sizes(
        "{} most frequent words without stop words",
        [text.num_content_vocabulary_words for text in texts],
    )
    lines: list[tuple[str, list[Any]]] = [
        ("Units", [num_units for num_units, _ in sizes]),
        ("Bytes of text", [num_bytes for _, num_bytes in sizes]),
        ("Bytes per unit", [num_bytes / max(1, num_units) for num_units, num_bytes in sizes]),
        (f"Distinct-1, {words}", [text.distinct_1 for text in texts]),
        (f"Distinct-2, {words}", [text.distinct_2 for text in texts]),
        (f"{with_task}: {vocabulary}", [text.task_overlap for text in texts]),
        (
            f"{with_task}: {content}",
            [text.content_task_overlap for text in texts],
        ),
        (
            f"{with_general}: {vocabulary}",
            [text.general_overlap for text in texts],
        ),
        (
            f"{with_general}: {content}",
            [text.content_general_overlap for text in texts],
        ),
    ]
    titles = [
        *(corpus.title for corpus in corpora),
        *(f"general corpus {name}".rstrip() for name in generals),
        "task\N{RIGHT SINGLE QUOTATION MARK}s sentences",
    ]
    return titles, [(title, [_format(value) for value in values]) for title, values in lines]


def _rankers(searches: list[SearchFacts | None]) -> list[tuple[str, list[str | None]]]:
    """Return lines on ranker and embedding model, or none if all corpora used BM25."""
    models = [search.model if search else None for search in searches]
    if not any(models):
        return []
    rankers = [search.ranker if search else None for search in searches]
    return [("Ranker", rankers), ("Embedding model", models)]


def _unless_zero(title: str, values: list[int]) -> list[tuple[str, list[int]]]:
    return [(title, values)] if any(values) else []


def _leaks(cards: list[CorpusCard]) -> list[tuple[str, list[int | None]]]:
    """Lines on units that contain evaluation sentences or n-grams of them, per policy.

    Corpora with another policy have no value.
    """
    lines: list[tuple[str, list[int | None]]] = []
    for policy, verb in (("remove", "Removed"), ("keep", "Kept")):
        treated = [card for card in cards if card.leaks == policy]
        if treated:
            values = [card.num_leaks if card.leaks == policy else None for card in cards]
            lines.append((f"{verb}: contain an evaluation sentence", values))
        for size in sorted({card.leak_ngram for card in treated if card.leak_ngram}):
            counted = [card.num_leaked_ngrams if card.leaks == policy else None for card in cards]
            lines.append((f"{verb}: share a {size}-gram with an evaluation sentence", counted))
    return lines


def _importance(cards: list[CorpusCard]) -> list[tuple[str, list[Any]]]:
    """Lines on the importance weights of DSIR corpora; none if there is no such corpus."""
    facts = [card.dsir for card in cards]
    if not any(facts):
        return []
    return [
        ("DSIR: n-grams of the task", [of and of.num_task_ngrams for of in facts]),
        ("DSIR: n-grams of the general corpus", [of and of.num_general_ngrams for of in facts]),
        ("DSIR: mean log importance weight", [of and of.mean_log_weight for of in facts]),
        (
            "DSIR: the same of the general corpus",
            [of and of.mean_log_weight_general for of in facts],
        ),
    ]


def _with_sizes(title: str, sizes: list[int]) -> str:
    """Insert the sample sizes into a title, and mark values of different sizes as incomparable."""
    if len(set(sizes)) == 1:
        return title.format(_format(sizes[0]))
    return title.format(" / ".join(map(_format, dict.fromkeys(sizes)))) + " (not comparable)"


def _format(value: float | str | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
