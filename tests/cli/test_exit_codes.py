"""What a command's end tells the shell and the user."""

import errno

import numpy as np
import pyarrow as pa
import pytest

from raykd.cli.exit_codes import exit_code_of
from raykd.errors import InputError


def failing(error):
    def command():
        raise error

    return command


def test_a_command_that_ends_well_says_nothing(capsys):
    assert exit_code_of(lambda: "anything") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.txt: no such file"), 2, "error: a.txt: no such file\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 2, "error: a: No space left on "),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (OSError(errno.EIO, "I/O error"), 1, "internal error: OSError: [Errno 5] I/O error\n"),
        (KeyError("a"), 1, "internal error: KeyError: 'a'\nThis is a fault of raykd. Run again"),
        (AssertionError(), 1, "internal error: AssertionError\nThis is a fault of raykd."),
    ],
)
def test_each_error_gets_its_line_and_code(capsys, error, code, line):
    assert exit_code_of(failing(error)) == code
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize(
    "allocate", [lambda: np.empty(1 << 55), lambda: pa.allocate_buffer(1 << 60)]
)
def test_want_of_memory_is_told_as_such_by_whatever_library_it_comes(capsys, allocate):
    assert exit_code_of(allocate) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: out of memory: ")
    assert "more; the same command goes on" in told
