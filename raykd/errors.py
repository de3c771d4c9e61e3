"""Errors that the user can fix."""

import errno

# Error numbers of a disk that is full or read-only.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class InputError(ValueError):
    """A mistake in the user's input; the message states file, key or row, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def shortened(text: str, max_length: int) -> str:
    """Shorten a text to its beginning and end if it exceeds `max_length` characters."""
    if len(text) <= max_length:
        return text
    end = max_length // 4
    return f"{text[: max_length - end - 5]} ... {text[-end:]}"
