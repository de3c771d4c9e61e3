"""Local wheel of raykd, sent with a job.

Its code is unpacked into the working directory, which comes first on the job's path: pip would skip
a wheel whose version is already installed.
"""

import re
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from raykd.errors import InputError

_NAME = re.compile(r"raykd-[^-]+-py3-none-any\.whl")


def unpack(wheel: Path, folder: Path) -> str:
    """Unpack a wheel of raykd into a folder; return its version.

    Raises:
        InputError: not a wheel of raykd.
    """
    metadata = _metadata(wheel)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(("/", "..")) or "/../" in name:
                raise InputError(f"--raykd {wheel}: has a file outside of its folder ({name})")
        archive.extractall(folder)
    return str(metadata["Version"])


def requirements_of(wheel: Path) -> list[str]:
    """List the requirements of a wheel, without extras and without Ray, which the cluster runs."""
    requirements = _metadata(wheel).get_all("Requires-Dist") or []
    return [
        text
        for text in requirements
        if "extra ==" not in text and not re.match(r"ray\b", text, re.IGNORECASE)
    ]


def _metadata(wheel: Path) -> Message:
    if not _NAME.fullmatch(wheel.name):
        raise InputError(
            f"--raykd {wheel}: expected pip, image, or a wheel raykd-VERSION-py3-none-any.whl "
            "(python -m build --wheel makes one)"
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            return message_from_bytes(archive.read(name))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"--raykd {wheel}: cannot be read ({error}); build it again") from None
