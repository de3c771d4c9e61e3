"""Messages about trainings that resume or fail."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from raykd import progress
from raykd.errors import InputError
from raykd.training.masked_lm_head.head import HeadJob
from raykd.training.phase.config import PhaseConfig
from raykd.training.phase.job import PhaseJob
from raykd.training.settings import TrainingConfig

# Messages of allocators that raise a plain RuntimeError: torch's on the CPU, CUDA's libraries.
_OUT_OF_MEMORY_PHRASES = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")


def report_resume_point(job: PhaseJob | HeadJob, num_threads: int) -> None:
    """Report the checkpoint that a job resumes from, if any, and why newer ones are not used.

    Args:
        job: unfinished job.
        num_threads: threads of a new training. A resumed one keeps its number of threads, which
            affects rounding.
    """
    checkpoints = job.checkpoints(0)
    step, notes = checkpoints.find()
    for note in notes:
        progress.say(f"  {job.name}: {note}")
    if step is None:
        return
    progress.say(f"  {job.name}: resumes after step {step} of {job.num_steps()}")
    if (own_threads := checkpoints.read_state(step)["num_threads"]) != num_threads:
        progress.say(
            f"  {job.name}: keeps its {own_threads} threads (a new training would have "
            f"{num_threads}), so that its result equals that of an uninterrupted run; to restart "
            f"with {num_threads} threads, remove {job.unfinished}"
        )


@contextmanager
def translate_training_errors(job: PhaseJob | HeadJob) -> Iterator[None]:
    """Translate errors that the user can fix to an `InputError` that names the job.

    Raises:
        InputError: the loss is not finite, or memory is insufficient.
        Exception: any other error, unchanged.
    """
    try:
        yield
    except FloatingPointError as error:
        raise InputError(f"{job.name}: {error}") from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = re.search(r"tried to allocate (\d[\d.]* \w+)", str(error), re.IGNORECASE)
        detail = f" (allocating {size[1]})" if size else ""
        raise InputError(f"{job.name}: out of memory{detail}; {remedies(job.config)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """True if an error means insufficient memory on any device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(x in message for x in _OUT_OF_MEMORY_PHRASES)


def killed_out_of_memory(job: PhaseJob | HeadJob) -> InputError:
    """Error of a job whose process was killed at every attempt."""
    return InputError(
        f"{job.name}: its process was killed, probably out of memory; {remedies(job.config)}"
    )


def remedies(config: TrainingConfig) -> str:
    """Settings that reduce memory, ordered by how little they change the result."""
    changes = []
    if isinstance(config, PhaseConfig) and not config.objective.mixes_examples:
        tokens = max(
            1, (config.max_tokens_per_micro_batch or config.batch_size * config.max_length) // 2
        )
        changes.append(f"set max_tokens_per_micro_batch: {tokens} (smaller micro-batches)")
    changes.append(f"lower batch_size (now {config.batch_size})")
    changes.append(f"lower max_length (now {config.max_length})")
    if config.precision == "float32":
        changes.append("set precision: bfloat16")
    return ", or ".join(changes)
