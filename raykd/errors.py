"""Errors that mean: the user can mend this."""

import errno

# What a disk answers that takes no more.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class InputError(ValueError):
    """A mistake in what the user gave; the message names file, key or row, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
