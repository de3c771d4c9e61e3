"""Ctrl-C during a sweep."""

import signal
import threading
from typing import Any


class Interrupts:
    """Context manager that remembers Ctrl-C.

    A KeyboardInterrupt can be lost in a library: on a busy machine a study continued to its end
    after Ctrl-C.
    """

    def __init__(self) -> None:
        self._is_interrupted = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if callable(self._before):
                signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)
        self.check()

    def _handle(self, number: int, frame: Any) -> None:
        self._is_interrupted = True
        self._before(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self._is_interrupted:
            raise KeyboardInterrupt
