"""Section `tune.confirm` of a recipe."""

from pydantic import Field

from raykd.config import Config


class ConfirmConfig(Config):
    """Repetition of the best trials with other seeds, which chooses the winner."""

    top: int = Field(
        5, ge=1, le=100, description="Number of complete trials, best first, that are repeated."
    )
    seeds: int = Field(
        3,
        ge=2,
        le=100,
        description="Number of new seeds with which each of them is trained; the search's seed is "
        "none of them.",
    )
    held_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the validation rows that the search does not score on. The winner is "
        "scored on them at the end, which shows how much of its score is selection bias. 0: all "
        "rows are searched on, and the bias cannot be measured.",
    )
