"""Errors of disks, and errors that only quote one."""

import errno
import shutil

import pytest

from raykd.storage.working_files import naming


class RustError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RustError("IoError: No space left on device (os error 28)"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    ],
    ids=["python", "rust", "copytree"],
)
def test_a_full_disk_is_named_whatever_library_found_it(tmp_path, error):
    with pytest.raises(OSError, match="No space left on device") as caught, naming(tmp_path):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("task failed: [Errno 2] No such file or directory: '/node/cache'"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "other.txt"),
    ],
    ids=["quoted", "another file"],
)
def test_an_error_of_another_file_is_raised_as_it_was(tmp_path, error):
    with pytest.raises(type(error)) as caught, naming(tmp_path):
        raise error
    assert caught.value is error
