"""Ray jobs: submission, list, logs, stop."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from raykd.cluster.dashboard import Head
from raykd.errors import InputError

# The client prefers this variable to its argument.
_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
_MAX_RECONNECTS = 5
_RECONNECT_PAUSE_S = 2.0
_LOST = (aiohttp.ClientError, requests.RequestException, ConnectionError, RuntimeError)


@dataclass(frozen=True)
class Job:
    """State of a job; times are in seconds since 1970."""

    id: str
    status: str
    entrypoint: str
    message: str | None
    started_s: float | None
    ended_s: float | None
    exit_code: int | None

    @property
    def is_over(self) -> bool:
        """Return whether the job has ended."""
        return JobStatus(self.status).is_terminal()


class Jobs:
    """Jobs of one cluster."""

    def __init__(self, head: Head) -> None:
        self._head = head
        with _explained(head):
            before = os.environ.get(_ADDRESS_VARIABLE)
            os.environ[_ADDRESS_VARIABLE] = head.url
            try:
                self._client = JobSubmissionClient(head.url, headers=head.headers())
            finally:
                if before is None:
                    del os.environ[_ADDRESS_VARIABLE]
                else:
                    os.environ[_ADDRESS_VARIABLE] = before

    def submit(self, entrypoint: str, runtime_env: Mapping[str, Any], job_id: str) -> None:
        """Upload the working directory, and start a job."""
        with _explained(self._head):
            self._client.submit_job(
                entrypoint=entrypoint, runtime_env=dict(runtime_env), submission_id=job_id
            )

    def all(self) -> list[Job]:
        """List the submitted jobs, the latest first."""
        with _explained(self._head):
            found = [_job(details) for details in self._client.list_jobs()]
        jobs = [job for job in found if job is not None]
        return sorted(jobs, key=lambda job: job.started_s or 0.0, reverse=True)

    def find(self, job_id: str) -> Job:
        """Return the state of a job.

        Raises:
            InputError: there is no such job.
        """
        with _explained(self._head, job_id):
            job = _job(self._client.get_job_info(job_id))
        assert job is not None, job_id
        return job

    def logs(self, job_id: str) -> str:
        """Return everything that a job has printed."""
        with _explained(self._head, job_id):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> bool:
        """Ask a job to stop; return False if it has already ended."""
        with _explained(self._head, job_id):
            return bool(self._client.stop_job(job_id))

    def follow(self, job_id: str, write: Callable[[str], None]) -> Job:
        """Pass on what a job prints until it ends; a lost connection is made again.

        Raises:
            InputError: there is no such job, or the cluster is lost.
        """
        self.find(job_id)
        with _explained(self._head, job_id):
            asyncio.run(self._follow(job_id, write))
        return self.find(job_id)

    async def _follow(self, job_id: str, write: Callable[[str], None]) -> None:
        num_shown = 0
        num_failures = 0
        while True:
            # A new connection begins with the first line again.
            num_received = 0
            try:
                async for text in self._client.tail_job_logs(job_id):
                    new = text[max(0, num_shown - num_received) :]
                    num_received += len(text)
                    num_shown = max(num_shown, num_received)
                    num_failures = 0
                    write(new)
                if JobStatus(self._client.get_job_status(job_id)).is_terminal():
                    return
            except _LOST:
                num_failures += 1
                if num_failures > _MAX_RECONNECTS:
                    raise
            await asyncio.sleep(_RECONNECT_PAUSE_S)


def _job(details: JobDetails) -> Job | None:
    """Convert Ray's record; None for drivers that were not submitted."""
    if details.submission_id is None:
        return None
    return Job(
        id=details.submission_id,
        status=str(details.status.value),
        entrypoint=details.entrypoint,
        message=details.message,
        started_s=_seconds(details.start_time),
        ended_s=_seconds(details.end_time),
        exit_code=details.driver_exit_code,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


@contextmanager
def _explained(head: Head, job_id: str | None = None) -> Iterator[None]:
    """Translate errors of the client to InputError."""
    try:
        yield
    except AuthenticationError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{head.url}: the token is missing or wrong ({reason})") from None
    except _LOST as error:
        reason = " ".join(str(error).split())
        if job_id is not None and "404" in reason:
            raise InputError(
                f"job {job_id}: not on {head.url}; raykd submit --list shows the jobs"
            ) from None
        raise InputError(f"{head.url}: {reason[:400]}") from None
