"""Events of a training that call functions of a test."""

from collections.abc import Callable
from typing import Any

from raykd.training.events import TrainingEvents


def calling(**handlers: Callable[..., Any]) -> TrainingEvents:
    """Events that call the given functions, by name of the event."""
    assert handlers.keys() <= vars(TrainingEvents).keys(), handlers
    return type("Events", (TrainingEvents,), {name: _method(f) for name, f in handlers.items()})()


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *values: function(*values)
