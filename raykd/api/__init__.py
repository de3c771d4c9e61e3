"""Python API: what the commands do, as functions.

Each function calls the same code as its command, raises `raykd.errors.InputError` for the user's
mistakes, and resumes or skips what is complete, as its command does. Where `out` is a URL, the
returned paths are of its local copy. The functions start a local Ray, or use the one that
`RAY_ADDRESS` or `ray.init` name. `search`, `dedup` and `contextualize` also take a corpus as a
dataset of Ray Data, and then return one; every call reads it again.
"""

from raykd.api.corpora import contextualize, dedup, search
from raykd.api.models import load_student, predict, run, tune

__all__ = ["contextualize", "dedup", "load_student", "predict", "run", "search", "tune"]
