"""Errors that mean: the user can mend this."""

import errno

# What a disk answers that takes no more.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class InputError(ValueError):
    """A mistake in what the user gave; the message names file, key or row, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def shortened(text: str, max_length: int) -> str:
    """The text, or its beginning and its end where it has more than `max_length` characters."""
    if len(text) <= max_length:
        return text
    end = max_length // 4
    return f"{text[: max_length - end - 5]} ... {text[-end:]}"
