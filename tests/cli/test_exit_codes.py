"""Exit codes and final messages of commands."""

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


def test_a_successful_command_prints_nothing(capsys):
    assert exit_code_of(lambda: "anything") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.txt: no such file"), 2, "error: a.txt: no such file\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 2, "error: a: No space left on "),
        (KeyboardInterrupt(), 130, "interrupted; rerun the same command to resume"),
        (OSError(errno.EIO, "I/O error"), 1, "internal error: OSError: [Errno 5] I/O error\n"),
        (KeyError("a"), 1, "internal error: KeyError: 'a'\nThis is a bug in raykd. Rerun"),
        (AssertionError(), 1, "internal error: AssertionError\nThis is a bug in raykd."),
    ],
)
def test_each_error_gets_its_line_and_code(capsys, error, code, line):
    assert exit_code_of(failing(error)) == code
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize(
    "allocate", [lambda: np.empty(1 << 55), lambda: pa.allocate_buffer(1 << 60)]
)
def test_out_of_memory_errors_of_any_library_are_reported_as_such(capsys, allocate):
    assert exit_code_of(allocate) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: out of memory: ")
    assert "more memory, then rerun the same command to resume" in message
