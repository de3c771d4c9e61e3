"""Probe of a storage place: write, read, list and delete a small file next to it."""

import uuid
from dataclasses import replace
from pathlib import Path

from pyarrow import fs

from raykd.errors import InputError
from raykd.storage.locations import Location, explained, file_system_of

_CONTENT = b"raykd doctor\n"


def probe_storage(location: Location) -> None:
    """Write, read, list and delete a small file next to a future output.

    Raises:
        InputError: states the step that failed, and the reason.
    """
    name = f".raykd-doctor-{uuid.uuid4().hex}"
    place: Location
    if isinstance(location, Path):
        place = location.absolute().with_name(name)
        system, path, parent = fs.LocalFileSystem(), str(place), str(place.parent)
        if not place.parent.is_dir():
            raise InputError(f"{place.parent}: no such directory; create it, or mount the storage")
    else:
        parent = location.key.rpartition("/")[0] or location.key
        place = replace(location, key=f"{parent}/{name}")
        path = place.key
        with explained(location):
            system = file_system_of(location)
    step = "write"
    try:
        with explained(location):
            with system.open_output_stream(path) as stream:
                stream.write(_CONTENT)
            step = "read"
            with system.open_input_stream(path) as stream:
                content = stream.read()
            step = "list"
            names = {info.base_name for info in system.get_file_info(fs.FileSelector(parent))}
            step = "delete"
            system.delete_file(path)
    except (InputError, OSError) as error:
        raise InputError(f"{step}: {error}") from None
    if content != _CONTENT or name not in names:
        step = "read" if content != _CONTENT else "list"
        raise InputError(f"{step}: {location}: does not show what was just written")
