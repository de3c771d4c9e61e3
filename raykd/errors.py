"""The one error that means: the user can mend this."""


class InputError(ValueError):
    """A mistake in what the user gave; the message names file, key or row, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
