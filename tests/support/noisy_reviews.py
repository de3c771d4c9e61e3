"""Labeled rows of a tiny task on which students differ."""

import json

_WORDS = {"praise": ("good", "fine", "great"), "blame": ("bad", "poor", "dull")}


def noisy_reviews(num_rows: int, num_films: int | None = None) -> list[str]:
    """Return rows as JSON; one in five has the other label, so that scores differ.

    Args:
        num_rows: number of rows.
        num_films: films that the texts are about; None: another one in each row.
    """
    rows = []
    for number in range(num_rows):
        label = ("praise", "blame")[number % 2]
        word = _WORDS[label][number // 2 % 3]
        shown = ("blame", "praise")[number % 2] if number % 5 == 0 else label
        film = number if num_films is None else number % num_films
        rows.append(json.dumps({"sentence": f"the film {film} was {word}", "label": shown}))
    return rows
