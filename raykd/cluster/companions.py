"""Processes that train together with an actor, in its placement group.

Ray Tune places all processes of a trial at once, and ends them with it. A trainer of Ray Train
inside of a trial would request its own placement group: concurrent trials then wait for each other
forever, and the group of a trial that is stopped early may stay.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public, but not listed

# Longest wait for the end of a process whose group has failed.
_END_S = 10.0


class LostCompanionError(RuntimeError):
    """The process of a companion was lost."""


class Companions:
    """Processes for the other bundles of this actor's placement group; kept between trainings.

    A process spends seconds on imports. All end with this actor.
    """

    def __init__(self) -> None:
        self._actors: list[Any] = []

    @contextmanager
    def process_group(
        self, size: int, follow: Callable[[int], object], backend: str
    ) -> Iterator[None]:
        """Form a process group (torch.distributed), in which this process has rank 0.

        Args:
            size: number of processes, with this one.
            follow: function of a rank, called by each companion while this process is in the block.
            backend: `gloo` or `nccl`.

        Raises:
            LostCompanionError: the process of a companion was lost.
            Exception: as raised in the block, or by a companion for a reason of its own.
        """
        if size == 1:
            yield
            return
        self._start(size)
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # untyped in Ray
        store = TCPStore(host, 0, size, is_master=True, wait_for_workers=False)
        ends = [
            actor.follow.remote(rank, size, host, store.port, backend, follow)
            for rank, actor in enumerate(self._actors, 1)
        ]
        try:
            _join(0, size, store, backend)
            yield
            ray.get(ends)
        except Exception as error:
            cause = _cause(ends, error)
            self._end()
            if cause is error:
                raise
            raise cause from error
        except BaseException:  # this process is to stop
            self._end()
            raise
        finally:
            _leave()

    def _start(self, size: int) -> None:
        group = ray.util.get_current_placement_group()
        assert group is not None
        assert len(group.bundle_specs) == size, (group.bundle_specs, size)
        for bundle in range(len(self._actors) + 1, size):
            resources = group.bundle_specs[bundle]
            actor = _Companion.options(  # type: ignore[attr-defined]  # of ray.remote
                num_cpus=resources.get("CPU", 0),
                num_gpus=resources.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=bundle
                ),
            ).remote()
            self._actors.append(actor)

    def _end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


@ray.remote
class _Companion:
    def follow(
        self,
        rank: int,
        size: int,
        host: str,
        port: int,
        backend: str,
        function: Callable[[int], object],
    ) -> None:
        store = TCPStore(host, port, size, is_master=False)
        try:
            _join(rank, size, store, backend)
            function(rank)
        except Exception as error:
            error.add_note(traceback.format_exc())
            raise
        finally:
            # The others would wait for this process.
            _leave()


def _join(rank: int, size: int, store: TCPStore, backend: str) -> None:
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(minutes=30)
    )


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _cause(ends: list[Any], error: Exception) -> Exception:
    """Find the error that ended a group: a companion's, if this process only lost contact to it."""
    if not isinstance(error, RuntimeError | ray.exceptions.RayError):
        return error
    ended, _ = ray.wait(ends, num_returns=len(ends), timeout=_END_S)
    for end in ended:
        try:
            with suppress(ray.exceptions.GetTimeoutError):
                ray.get(end, timeout=_END_S)
        except ray.exceptions.RayTaskError as failure:
            cause = failure.cause
            if isinstance(cause, Exception) and not isinstance(cause, RuntimeError):
                return cause
            # One of the two lost contact to the other: which one is not known.
            error.add_note(f"another process of the trial: {failure}")
            # One of the two lost contact to the other: which one is not known.
            error.add_note(f"another process of the trial: {failure}")
        except ray.exceptions.RayError as failure:
            return LostCompanionError(str(failure))
    return error
