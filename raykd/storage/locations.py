"""Locations: paths, URLs of object stores (`s3://`, `gs://`, `az://`) and of the hub (`hf://`).

Credentials and endpoints are taken from the same sources as by the stores' own tools: the
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME,
AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN), their configuration files, or the role of the
node; every node needs them. `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH` is
`az://CONTAINER/PATH?account_name=ACCOUNT`. `hf://datasets/OWNER/NAME@REVISION/PATH` is a file or
folder of a dataset of the Hugging Face hub, which is only read; HF_TOKEN gives access to private
ones. Other URLs may have options, as in `s3://bucket/folder?region=eu-west-1`; a URL must not
contain secrets, since URLs are written into recipes.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import pyarrow as pa
from isal import igzip
from isal.igzip_lib import IsalError
from pyarrow import fs

from raykd.config import absolute
from raykd.errors import InputError
from raykd.storage.outputs import missing_hint
from raykd.storage.remote import hub, stores

# Bytes per request to an object store.
READ_BYTES = 4 << 20

_SCHEMES = ("s3", "gs", "az", "abfss", "hf")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ABFSS = re.compile(r"abfss://([^/@]+)@([^/@.]+)\.dfs\.core\.windows\.net(?:/([^?]*))?")
_HUB_KEY = re.compile(r"datasets/[^/@]+/[^/@]+@[^/@]+(/.*)?")
_REFUSED = re.compile(
    "ACCESS_DENIED|AuthorizationFailure|AuthenticationFailed|AuthorizationPermission"
    "|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|TOKEN"
    "|HTTP status 40[013]|Permission denied|PERMISSION_DENIED|UNAUTHENTICATED|credentials",
    re.IGNORECASE,
)
_THROTTLED = re.compile(
    "SLOW_?DOWN|THROTTL|TOO_?MANY_?REQUESTS|RATE_?LIMIT|HTTP status (429|503)", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    "NETWORK_CONNECTION|curlCode|curl error|resolve host|connect|timed? ?out|UNAVAILABLE|OAuth",
    re.IGNORECASE,
)
_READ_ERRORS: tuple[type[Exception], ...] = (
    pa.ArrowException,
    OSError,
    EOFError,
    UnicodeDecodeError,  # of names in a damaged Parquet schema
    IsalError,  # type: ignore[assignment]  # to its stub the class is an instance
)


@dataclass(frozen=True)
class Remote:
    """Object, or prefix of objects, in an object store."""

    scheme: str
    key: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    @property
    def bucket(self) -> str:
        """Bucket, or container of Azure."""
        return self.key.partition("/")[0]


Location = Path | Remote


def shown(location: Location) -> str:
    r"""Format a location as UTF-8 text; bytes of a name that are not UTF-8 are escaped (`\xe9`)."""
    name = str(location).encode("utf-8", "surrogateescape")
    return name.decode("utf-8", "backslashreplace")


def is_url(reference: str) -> bool:
    """Check whether a reference is a URL rather than a path."""
    return _URL.fullmatch(reference) is not None


def absolute_reference(folder: Path, reference: str) -> str:
    """Make a reference in a file in `folder` absolute; URLs are unchanged."""
    return reference if is_url(reference) else absolute(folder, reference)


def location_of(reference: str, *, to_write: bool = False) -> Location:
    """Parse a path or URL; nothing is opened.

    Raises:
        InputError: the URL has an unknown scheme or option, no bucket, or a secret, or is to be
            written to and can only be read.
    """
    # Hadoop's form of the address of an Azure container.
    plain = _ABFSS.sub(r"az://\1/\3?account_name=\2", reference)
    if (match := _URL.fullmatch(plain)) is None:
        return Path(reference)
    scheme, rest = match[1].lower(), match[2]
    key, _, query = rest.partition("?")
    if scheme == "abfss":
        raise InputError(f"{reference}: write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH")
    if scheme not in _SCHEMES:
        schemes = [f"{name}://" for name in _SCHEMES if not (to_write and name == "hf")]
        raise InputError(f"{scheme}://: unknown; known are {', '.join(schemes)} and paths")
    if "@" in key.partition("/")[0] or "@" in query:
        raise InputError(
            f"{scheme}:// with a name and password in it: URLs are written into recipes; remove "
            f"them, and {_remedy(scheme)}"
        )
    options = parse_qsl(query, keep_blank_values=True)
    known = stores.OPTIONS.get(scheme, ())
    for name, _value in options:
        if name not in known:
            raise InputError(
                f"{scheme}://{key}: unknown option {name!r}; known are {', '.join(known) or 'none'}"
            )
    if scheme == "hf":
        _check_hub_url(reference, key, to_write)
    elif not key.strip("/"):
        raise InputError(f"{reference}: has no bucket; write {scheme}://BUCKET/KEY")
    return Remote(scheme, key.rstrip("/"), tuple(options))


def _remedy(scheme: str) -> str:
    return stores.REMEDIES.get(scheme, "set HF_TOKEN on every node for private datasets")


def _check_hub_url(reference: str, key: str, to_write: bool) -> None:
    if to_write:
        raise InputError(
            f"{reference}: datasets of the hub are only read; write to a path, s3://, gs:// or az://"
        )
    if _HUB_KEY.fullmatch(key) is None:
        raise InputError(
            f"{reference}: write hf://datasets/OWNER/NAME@REVISION/PATH; the revision is a commit "
            "or tag, so that a run can be repeated"
        )


def open_file(location: Location) -> pa.NativeFile:
    """Open a file for random access; use it inside `explained`."""
    if isinstance(location, Path):
        # As bytes, since not every name is UTF-8.
        return pa.OSFile(os.fsencode(location))
    return file_system_of(location).open_input_file(location.key)


def open_stream(location: Location, compression: str | None) -> pa.NativeFile:
    """Open a file's decompressed bytes as a stream; use it inside `explained`."""
    if compression == "gzip":
        # Twice as fast as Arrow's decompression.
        stream = igzip.open(open_stream(location, None))  # type: ignore[no-untyped-call]  # no stub
        return pa.PythonFile(stream, "r")
    if isinstance(location, Path):
        file = open_file(location)
        return file if compression is None else pa.CompressedInputStream(file, compression)
    return file_system_of(location).open_input_stream(
        location.key, compression=compression, buffer_size=READ_BYTES
    )


def size_of(location: Location) -> int:
    """Size of a file in bytes; use it inside `explained`."""
    if isinstance(location, Path):
        return location.stat().st_size
    info = file_system_of(location).get_file_info(location.key)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(location.key)
    if info.type == fs.FileType.Directory:
        raise IsADirectoryError(location.key)
    return int(info.size)


def is_directory(location: Location) -> bool:
    """Check for a folder or a prefix of objects; use it inside `explained`."""
    if isinstance(location, Path):
        return location.is_dir()
    return bool(file_system_of(location).get_file_info(location.key).type == fs.FileType.Directory)


def remote_files_below(remote: Remote) -> list[tuple[Remote, tuple[str, ...]]]:
    """List all objects below a prefix, sorted, with the parts of their relative names."""
    infos = file_system_of(remote).get_file_info(fs.FileSelector(remote.key, recursive=True))
    keys = sorted(info.path for info in infos if info.type == fs.FileType.File)
    return [
        (
            Remote(remote.scheme, key, remote.options),
            tuple(key.removeprefix(remote.key).strip("/").split("/")),
        )
        for key in keys
    ]


@contextmanager
def explained(location: Location) -> Iterator[None]:
    """Translate read errors to InputError: missing, not a file, forbidden, damaged, unreachable.

    A MemoryError is not translated.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        remedy = (
            f"correct the path (in a recipe it is relative to the recipe){missing_hint(location)}"
            if isinstance(location, Path)
            else "correct the bucket or the key"
        )
        raise InputError(f"{location}: no such file; {remedy}") from None
    except IsADirectoryError:
        raise InputError(f"{location}: is a directory, a file is expected") from None
    except PermissionError:
        raise InputError(f"{location}: not readable; check its permissions") from None
    except _READ_ERRORS as error:
        # Errors of the disk have an errno; errors of decoders do not.
        if isinstance(location, Path) and getattr(error, "errno", None) is not None:
            raise
        raise _read_error(location, error) from None
    except Exception as error:
        if isinstance(location, Path) or location.scheme != "hf":
            raise
        # The hub's client has its own errors, which are not those of a file system.
        raise InputError(f"{location}: {hub.explained(error)}") from None


def _read_error(location: Location, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    if isinstance(location, Remote) and (problem := problem_of(location, reason)):
        return InputError(f"{location}: {problem}")
    if "requires too much memory" in reason:
        return InputError(
            f"{location}: its zstd frame needs a window of {_window_of(location)}, above the "
            "128 MiB that are read; recompress it: zstd -d --long=31 --stdout FILE | zstd -o "
            "NEW.zst"
        )
    # Unsupported codecs and types may be reported as an OSError.
    if isinstance(error, pa.ArrowNotImplementedError) or "not supported" in reason:
        return InputError(
            f"{location}: not supported ({reason[:200]}); write the file again with plain "
            "columns, compressed by zstd"
        )
    return InputError(
        f"{location}: damaged or truncated ({reason[:200]}); get or write the file again"
    )


def _window_of(location: Location) -> str:
    """Read the window size from the header of a zstd frame (RFC 8878, section 3.1.1.1.2)."""
    with open_file(location) as file:
        header = file.read(6)
    if len(header) < 6 or header[4] & 0x20:
        return "more than 128 MiB"
    exponent, mantissa = header[5] >> 3, header[5] & 7
    base = 1 << (10 + exponent)
    return f"{(base + base // 8 * mantissa) >> 20:,} MiB"


def problem_of(remote: Remote, reason: str) -> str | None:
    """Explain an error of an object store, with a remedy; the original may contain a key."""
    bucket, store = remote.bucket, stores.name_of(remote.scheme, dict(remote.options))
    is_named_missing = f"ucket '{bucket}'" in reason and "not found" in reason
    if is_named_missing or re.search("NO_SUCH_BUCKET|ContainerNotFound", reason):
        return f"no bucket {bucket!r}; correct the URL"
    if _THROTTLED.search(reason):
        return f"{store} refuses requests at this rate; rerun the command later"
    if _UNREACHABLE.search(reason):
        variable = "AWS_ENDPOINT_URL and AWS_REGION" if remote.scheme == "s3" else "the URL"
        return f"{store} does not answer; check the network, and {variable}"
    if _REFUSED.search(reason):
        return f"access is refused; {_remedy(remote.scheme)}"
    return None


def file_system_of(remote: Remote, *, to_write: bool = False) -> fs.FileSystem:
    """File system of a store, with the credentials and the endpoint of the environment.

    Use it inside `explained`.

    Args:
        remote: object or prefix in the store.
        to_write: write a small object by a single request, whose errors are raised at its end.
    """
    options = dict(remote.options)
    if remote.scheme == "hf":
        return hub.file_system(remote.key)
    return stores.file_system(remote.scheme, remote.bucket, options, to_write=to_write)
