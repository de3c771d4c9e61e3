"""What the shell is told when a command ends: one line, and a code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable

from cyclopts import CycloptsError

from raykd.errors import FULL_DISK, InputError

USER_MISTAKE = 2
OUR_MISTAKE = 1
_INTERRUPTED = 130

# What the file system answers that is the user's to mend, and what to do about it.
_REMEDIES = {
    **dict.fromkeys(FULL_DISK, "make room there, or choose another disk with --out"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "change its permissions, or choose another place with --out"
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
        "remove it, or choose another place with --out",
    ),
}


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command to its end; returns 0, 2 for the user's mistake, 1 for ours."""
    try:
        command()
    except CycloptsError:
        return USER_MISTAKE
    except InputError as error:
        return _fail(f"error: {error}", USER_MISTAKE)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; the same command goes on from the last finished step", _INTERRUPTED
        )
    except MemoryError as error:
        return _fail(
            f"error: out of memory{_first_line(error)}; close other programs, or take a machine "
            "with more; the same command goes on from the last finished step",
            USER_MISTAKE,
        )
    except OSError as error:
        if remedy := _REMEDIES.get(error.errno or 0):
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"error: {where}{error.strerror}; {remedy}", USER_MISTAKE)
        return _fail(_as_ours(error), OUR_MISTAKE)
    except Exception as error:
        return _fail(_as_ours(error), OUR_MISTAKE)
    return 0


def _as_ours(error: Exception) -> str:
    return (
        f"internal error: {type(error).__name__}{_first_line(error)}\n"
        "This is a fault of raykd. Run again with --debug for the traceback, and report it."
    )


def _first_line(error: Exception) -> str:
    first_line = str(error).strip().split("\n", maxsplit=1)[0]
    return f": {first_line}" if first_line else ""


def _fail(message: str, code: int) -> int:
    if os.environ.get("RAYKD_DEBUG") == "1":
        traceback.print_exc()
    print(message, file=sys.stderr)  # noqa: T201  # the command's answer
    return code
