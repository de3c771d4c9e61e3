"""Exit codes and final messages of commands."""

import errno
import os
import sys
import traceback
from collections.abc import Callable

from cyclopts import CycloptsError

from raykd import progress
from raykd.errors import FULL_DISK, InputError

USER_ERROR = 2
INTERNAL_ERROR = 1
_INTERRUPTED = 130

# Errors of the file system that the user can fix, and their remedies.
_REMEDIES = {
    **dict.fromkeys(FULL_DISK, "free some space, or choose another disk with --out"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "change its permissions, or choose another place with --out"
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
        "remove it, or choose another place with --out",
    ),
}


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command; return its exit code, 2 for a user error, or 1 for an internal error.

    A command that returns no number has succeeded: 0.
    """
    try:
        result = command()
    except CycloptsError:
        return USER_ERROR
    except InputError as error:
        return _fail(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; rerun the same command to resume from the last completed step",
            _INTERRUPTED,
        )
    except MemoryError as error:
        return _fail(
            f"error: out of memory{_first_line(error)}; close other programs or use a machine with "
            "more memory, then rerun the same command to resume from the last completed step",
            USER_ERROR,
        )
    except OSError as error:
        if remedy := _REMEDIES.get(error.errno or 0):
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"error: {where}{error.strerror}; {remedy}", USER_ERROR)
        return _fail(_internal_error(error), INTERNAL_ERROR)
    except Exception as error:
        return _fail(_internal_error(error), INTERNAL_ERROR)
    return result if type(result) is int else 0


def _internal_error(error: Exception) -> str:
    return (
        f"internal error: {type(error).__name__}{_first_line(error)}\n"
        "This is a bug in raykd. Rerun with --debug for the traceback, and report it."
    )


def _first_line(error: Exception) -> str:
    first_line = str(error).strip().split("\n", maxsplit=1)[0]
    return f": {first_line}" if first_line else ""


def _fail(message: str, code: int) -> int:
    if os.environ.get("RAYKD_DEBUG") == "1":
        traceback.print_exc()
    if progress.logs_json():
        progress.say(message, level="error")
    else:
        print(message, file=sys.stderr)  # noqa: T201  # the command's answer
    return code
