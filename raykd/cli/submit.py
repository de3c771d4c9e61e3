"""The command `raykd submit`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from raykd import progress
from raykd.cluster.dashboard import Head, check_access, find_head
from raykd.errors import InputError
from raykd.operations.submitted_command import parse_command

if TYPE_CHECKING:
    from raykd.cluster.jobs import Job, Jobs
    from raykd.operations.submission import Submission

_INTERRUPTED = 130
_NUM_FILES_SHOWN = 5


def submit(
    *command: Annotated[
        str,
        Parameter(
            name="COMMAND",
            help="After `--`: run RECIPE --out URL; or tune, corpus, predict and others.",
        ),
    ],
    address: Annotated[
        str | None,
        Parameter(
            help="Dashboard of the cluster (default: RAY_API_SERVER_ADDRESS, else "
            "http://127.0.0.1:8265)."
        ),
    ] = None,
    raykd: Annotated[
        str,
        Parameter(
            help="Origin of raykd on the cluster: pip (this version, kept if the nodes have it), "
            "image (nothing is installed), or the path of a wheel."
        ),
    ] = "pip",
    include: Annotated[
        list[Path] | None,
        Parameter(consume_multiple=True, negative="", help="Additional files and folders to send."),
    ] = None,
    submission_id: Annotated[
        str | None, Parameter(help="Id of the job (default: made from name and time).")
    ] = None,
    no_wait: Annotated[
        bool, Parameter(negative="", help="Return when the job is submitted.", show_default="no")
    ] = False,
    dry_run: Annotated[
        bool,
        Parameter(
            negative="",
            help="Build the working directory and print Ray's command; submit nothing.",
            show_default="no",
        ),
    ] = False,
    list_jobs: Annotated[
        bool, Parameter(name="--list", negative="", help="List the jobs.", show_default="no")
    ] = False,
    logs: Annotated[str | None, Parameter(help="Follow the output of job LOGS.")] = None,
    stop: Annotated[str | None, Parameter(help="Stop job STOP.")] = None,
) -> int:
    """Submit a command as a Ray job and follow it, or list, follow or stop jobs.

    Returns:
        Exit code: 0, or that of the job.
    """
    given = [bool(command), list_jobs, logs is not None, stop is not None]
    if sum(given) != 1:
        raise InputError(
            "raykd submit: give one of `-- run RECIPE --out URL`, --list, --logs ID or --stop ID"
        )
    head = find_head(address)
    if command:
        from raykd.operations.submission import prepared  # imports torch

        with prepared(
            parse_command(command),
            raykd=raykd,
            include=include or (),
            job_id=submission_id,
            is_kept=dry_run,
        ) as made:
            _describe(made, head)
            if dry_run:
                return 0
            jobs = _connect(head)
            jobs.submit(
                made.entrypoint,
                {**made.runtime_env, "working_dir": str(made.folder)},
                made.job_id,
            )
        progress.say(f"job {made.job_id} is submitted to {head.url}")
        if no_wait:
            _say_how(head, made.job_id)
            return 0
        return _follow(jobs, head, made.job_id)
    jobs = _connect(head)
    if list_jobs:
        _print("\n".join(map(_line, jobs.all())) or f"{head.url}: no submitted jobs")
        return 0
    if stop is not None:
        is_stopping = jobs.stop(stop)
        _print(f"job {stop}: {'stopping' if is_stopping else jobs.find(stop).status.lower()}")
        return 0
    assert logs is not None
    return _follow(jobs, head, logs)


def _connect(head: Head) -> "Jobs":
    for note in check_access(head):
        progress.say(note)
    from raykd.cluster.jobs import Jobs  # imports Ray

    return Jobs(head)


def _describe(made: "Submission", head: Head) -> None:
    from raykd.operations.submission import size_text

    shown = ", ".join(made.files[:_NUM_FILES_SHOWN])
    more = len(made.files) - _NUM_FILES_SHOWN
    rest = f" and {more:,} more" if more > 0 else ""
    progress.say(
        f"working directory: {len(made.files):,} files, {size_text(made.num_bytes)}: {shown}{rest}"
    )
    for note in made.notes:
        progress.say(note)
    progress.say(
        f"equivalent command (--dry-run keeps its working directory):\n"
        f"  {made.ray_command(head.url)}"
    )


def _follow(jobs: "Jobs", head: Head, job_id: str) -> int:
    try:
        job = jobs.follow(job_id, _write)
    except KeyboardInterrupt:
        progress.say(f"\njob {job_id} continues on the cluster")
        _say_how(head, job_id)
        return _INTERRUPTED
    progress.say(f"job {job_id}: {job.status.lower()}")
    if job.status == "SUCCEEDED":
        return 0
    if job.message:
        progress.say(f"  {job.message.strip()[-2000:]}")
    if job.message and "raykd==" in job.message and "runtime" in job.message.lower():
        progress.say("  raykd could not be installed by pip: give --raykd image or --raykd WHEEL")
    return job.exit_code or 1


def _say_how(head: Head, job_id: str) -> None:
    start = f"raykd submit --address {head.url}"
    progress.say(f"  follow it:  {start} --logs {job_id}\n  stop it:    {start} --stop {job_id}")


def _line(job: "Job") -> str:
    started = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started_s)) if job.started_s else "--"
    )
    return f"{job.status:10} {started:16} {job.id}  {job.entrypoint}"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print(text: str) -> None:
    print(text)  # noqa: T201  # the command's answer
