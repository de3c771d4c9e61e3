"""Contextualized corpora of trials that search how many hits per query are used.

One search with the largest value makes the largest corpus, on which the teacher's outputs are
computed. The corpus of another value is its first part, and so are the outputs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from filelock import FileLock

from raykd.contextualize.select import write_slice
from raykd.workflow.checks.corpus_keys import largest_values
from raykd.workflow.run import Run
from raykd.workflow.stages import make_texts
from raykd.workflow.tune.trial.setting import Setting


def make_largest(setting: Setting) -> None:
    """Search once with the largest values of the space, and make the corpus of these."""
    recipe = setting.run.recipe
    largest = recipe.with_values(largest_values(recipe), "tune.space")
    # Of the other variants, no trial reads a text.
    only = largest.model_copy(update={"variants": (setting.variant,)})
    make_texts(replace(setting.run, recipe=only))


def run_of(setting: Setting, values: Mapping[str, Any], source: str) -> Run:
    """The run of a trial, with its own recipe and corpora.

    Args:
        setting: values shared by the trials.
        values: values of the searched keys.
        source: origin of the values, for messages.
    """
    recipe = setting.run.recipe.with_values(values, source)
    run = replace(setting.run, recipe=recipe)
    if run.corpora is None:
        return run
    assert recipe.retrieval is not None
    last_rank = recipe.contextualize.last_rank(recipe.retrieval.top_k)
    sliced = replace(run, last_rank=last_rank)
    for text in {chain.last.text for chain in setting.chains}:
        if sliced.has_slice(text):
            out = sliced.training_text(text)
            out.parent.mkdir(parents=True, exist_ok=True)
            # Other machines make their own; on this one, a concurrent trial may need the same.
            with FileLock(out.with_name(f"{out.name}.lock")):
                write_slice(run.training_text(text), last_rank, out)
    return sliced
