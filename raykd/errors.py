"""Errors that the user can fix."""

import errno

# Error numbers of a disk that is full or read-only.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_MAX_REASON_LENGTH = 1000


class InputError(ValueError):
    """A mistake in the user's input; the message states file, key or row, and the remedy.

    The command line prints it without a traceback and exits with code 2. Control characters, which
    names and contents of files may bring to a terminal, are escaped.
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


def printable(text: str) -> str:
    """Escape all characters that are not printable, except line ends."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def shortened(text: str, max_length: int) -> str:
    """Shorten a text to its beginning and end if it exceeds `max_length` characters."""
    if len(text) <= max_length:
        return text
    end = max_length // 4
    return f"{text[: max_length - end - 5]} ... {text[-end:]}"


def reason_of(error: Exception) -> str:
    """Describe an error of a library in one line; its type is named where the text is not enough.

    Args:
        error: error without a remedy of its own.
    """
    text = shortened(" ".join(str(error).split()), _MAX_REASON_LENGTH)
    is_described = isinstance(error, OSError | ValueError | RuntimeError)
    return text if text and is_described else f"{type(error).__name__}: {text}"
