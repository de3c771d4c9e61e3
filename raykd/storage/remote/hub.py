"""The Hugging Face hub: files of its datasets, and whether it answers."""

import functools

from pyarrow import fs

from raykd.errors import InputError, shortened

_TIMEOUT_S = 5.0
_MAX_REASON_LENGTH = 300


def problem_with(dataset: str, revision: str | None) -> str | None:
    """Reason why a dataset cannot be read, within seconds; None if the hub has it."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(dataset, revision=revision, timeout=_TIMEOUT_S)
    except Exception as error:  # which HTTP errors there are depends on the hub's client
        return explained(error)
    return None


def endpoint() -> str:
    """Address of the hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def explained(error: Exception) -> str:
    """Describe an error of the hub's client in one line."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return shortened(lines[0], _MAX_REASON_LENGTH)


@functools.cache
def _checked(dataset: str, revision: str) -> fs.FileSystem:
    # Checked first, because the file system itself tries again for minutes.
    if problem := problem_with(dataset, revision):
        raise InputError(
            f"hf://datasets/{dataset}@{revision}: was looked for at the hub ({endpoint()}) and "
            f"could not be read: {problem}; check name, revision and network, and HF_TOKEN if it "
            "is private"
        )
    from huggingface_hub import HfFileSystem

    return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem()))


def file_system(key: str) -> fs.FileSystem:
    """File system of the datasets of the hub, after one request for the dataset of a key.

    Args:
        key: datasets/OWNER/NAME@REVISION/PATH.

    Raises:
        InputError: the hub does not answer, or has no such dataset or revision.
    """
    _, owner, name = key.split("/")[:3]
    dataset, _, revision = f"{owner}/{name}".partition("@")
    return _checked(dataset, revision)
