"""What the user is told of a training that was interrupted, or that cannot go on."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from raykd import progress
from raykd.errors import InputError
from raykd.training.masked_lm_head.head import HeadJob
from raykd.training.phase_config import PhaseConfig
from raykd.training.phases import PhaseJob
from raykd.training.settings import TrainingConfig

# Allocators that raise a RuntimeError of no kind of its own: torch's on the CPU, CUDA's libraries.
_OUT_OF_MEMORY_PHRASES = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")


def report_resume_point(job: PhaseJob | HeadJob, num_threads: int) -> None:
    """Report which checkpoint a job resumes from, if there is one, and why not from a newer one.

    Args:
        job: not finished.
        num_threads: threads of a training that starts now. One that resumes keeps those it began
            with, since others would round its sums differently.
    """
    checkpoints = job.checkpoints(0)
    step, notes = checkpoints.find()
    for note in notes:
        progress.say(f"  {job.name}: {note}")
    if step is None:
        return
    progress.say(f"  {job.name}: goes on after step {step} of {job.num_steps()}")
    if (kept := checkpoints.read_state(step)["num_threads"]) != num_threads:
        progress.say(
            f"  {job.name}: keeps the number of threads it began with, {kept} (a new training "
            f"would have {num_threads}), so that its result is that of an undisturbed run; remove "
            f"{job.unfinished} to train it from the start with {num_threads}"
        )


@contextmanager
def translate_training_errors(job: PhaseJob | HeadJob) -> Iterator[None]:
    """Make what the user can mend an `InputError` that names the job.

    Raises:
        InputError: the loss is not finite, or memory does not suffice.
        Exception: any other, as it is.
    """
    try:
        yield
    except FloatingPointError as error:
        raise InputError(f"{job.name}: {error}") from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        wanted = re.search(r"tried to allocate (\d[\d.]* \w+)", str(error), re.IGNORECASE)
        more = f" ({wanted[1]} more were wanted)" if wanted else ""
        raise InputError(f"{job.name}: out of memory{more}; {remedies(job.config)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory could not be had, on any device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(x in said for x in _OUT_OF_MEMORY_PHRASES)


def killed_out_of_memory(job: PhaseJob | HeadJob) -> InputError:
    """For a job whose process was killed, each time that it was tried."""
    return InputError(
        f"{job.name}: its process was killed, most likely for want of memory; "
        f"{remedies(job.config)}"
    )


def remedies(config: TrainingConfig) -> str:
    """The settings that make a step need less memory, those that change its result least first."""
    found = []
    if isinstance(config, PhaseConfig) and not config.objective.mixes_examples:
        most = max(1, (config.max_tokens_per_pass or config.batch_size * config.max_length) // 2)
        found.append(f"set max_tokens_per_pass: {most} (a batch in several passes)")
    found.append(f"lower batch_size (now {config.batch_size})")
    found.append(f"lower max_length (now {config.max_length})")
    if config.precision == "float32":
        found.append("set precision: bfloat16")
    return ", or ".join(found)
