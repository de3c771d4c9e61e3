"""What students learn from before they are adapted to the task."""

from typing import Literal

# `direct` has no such phase and is distilled on the task's labelled rows at once; `alone` has none
# either and learns from no teacher; `task_da` learns from the task's rows and what `raykd augment`
# made of them, `contextualized_task_da` from that after the contextualized corpus; `tfidf` is no
# student at all (TF-IDF and logistic regression).
Arm = Literal[
    "tfidf",
    "alone",
    "direct",
    "task",
    "task_da",
    "random",
    "contextualized",
    "contextualized_task_da",
]
INJECTED_ARMS: tuple[Arm, ...] = (
    "task",
    "task_da",
    "random",
    "contextualized",
    "contextualized_task_da",
)
CORPUS_ARMS: tuple[Arm, ...] = ("random", "contextualized")
TASK_DA_ARMS: tuple[Arm, ...] = ("task_da", "contextualized_task_da")


def injections_of(arm: Arm) -> tuple[Arm, ...]:
    """The arms by whose injections, one after the other, an arm's student goes."""
    if arm == "contextualized_task_da":
        return ("contextualized", arm)
    return (arm,) if arm in INJECTED_ARMS else ()


def text_of(arm: str) -> str:
    """The text of an arm's last injection."""
    return "task_da" if arm in TASK_DA_ARMS else arm
