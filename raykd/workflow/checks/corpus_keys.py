"""Searched keys that decide how many hits make the contextualized corpus of a trial."""

from typing import Any

from raykd.errors import InputError
from raykd.retrieval.dense.config import FlatConfig
from raykd.workflow.recipe.recipe import Recipe

TOP_K = "retrieval.top_k"
TOP_PERCENT = "contextualize.top_percent"
CORPUS_KEYS = (TOP_K, TOP_PERCENT)


def searched_corpus_keys(recipe: Recipe) -> list[str]:
    """The keys of `CORPUS_KEYS` that the recipe's space searches."""
    space = {} if recipe.tune is None else recipe.tune.space
    keys = {key for name, parameter in space.items() for key in parameter.keys_of(name)}
    return [key for key in CORPUS_KEYS if key in keys]


def largest_values(recipe: Recipe) -> dict[str, Any]:
    """Largest value of each searched key; that of the recipe counts where a condition may fail."""
    assert recipe.tune is not None
    assert recipe.retrieval is not None
    own = {TOP_K: recipe.retrieval.top_k, TOP_PERCENT: recipe.contextualize.top_percent}
    largest: dict[str, Any] = {}
    for key in searched_corpus_keys(recipe):
        values: list[Any] = []
        for name, parameter in recipe.tune.space.items():
            if key in parameter.keys_of(name):
                values += [assignment[key] for assignment in parameter.assignments(name)]
                values += [own[key]] if parameter.when else []
        # A share of null is all hits.
        largest[key] = None if None in values else max(values, key=float)
    return largest


def check_corpus_key(recipe: Recipe, path: str, variant: str) -> None:
    """Refuse a key of `CORPUS_KEYS` that cannot be searched with one search of the corpus.

    Raises:
        InputError: the tuned variant reads no contextualized corpus, or another text whose size
            depends on it.
    """
    chain = recipe.chain_of(variant)
    texts = [] if chain is None else [step.text for step in chain.steps]
    if recipe.retrieval is None or all(text.kind != "contextualized" for text in texts):
        raise InputError(
            f"tune.space: {path!r} changes nothing in the tuned variant {variant!r}; remove it, or "
            "set tune.variant to a variant with a contextualized step"
        )
    if baseline := next((text.kind for text in texts if text.follows_contextualized), None):
        raise InputError(
            f"tune.space: trials cannot change {path!r} in the variant {variant!r}, whose "
            f"{baseline} text has the size of the contextualized corpus; give the {baseline} step "
            "num_units, in the section injections"
        )


def check_ranker(recipe: Recipe) -> None:
    """Refuse a searched top_k if the best k hits are not the first of those for a larger k.

    Raises:
        InputError: names the key of the ranker.
    """
    config = recipe.retrieval
    if config is None or TOP_K not in searched_corpus_keys(recipe):
        return
    if config.dense is not None and not isinstance(config.dense.index, FlatConfig):
        raise InputError(
            f"tune.space: trials cannot change {TOP_K!r} with the approximate index "
            f"{config.dense.index.name!r}, which finds other hits for another top_k; set "
            f"retrieval.dense.index: {{name: flat}}, or search {TOP_PERCENT}"
        )
    largest = largest_values(recipe)[TOP_K]
    if config.ranker == "hybrid" and (config.fusion.candidates or 0) < largest:
        raise InputError(
            f"tune.space: trials cannot change {TOP_K!r} with ranker hybrid, which fuses top_k "
            f"hits of each search; set retrieval.fusion.candidates to {largest} or more, or search "
            f"{TOP_PERCENT}"
        )
