"""The command line: one command for a whole run, one for each stage."""

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from raykd.errors import FULL_DISK, InputError

# Heavy imports stand inside the commands, so that `raykd --help` answers at once.

USER_MISTAKE = 2
OUR_MISTAKE = 1
# What the file system answers that is the user's to mend, and what to do about it.
_REMEDIES = {
    **dict.fromkeys(FULL_DISK, "make room there, or choose another disk with --out"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "change its permissions, or choose another place with --out"
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
        "remove it, or choose another place with --out",
    ),
}

app = App(
    name="raykd",
    help="Turn a large fine-tuned text classifier into a small one: contextualize a corpus, "
    "distil, search, on Ray.",
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
)

_JOBS = Group("A whole job", sort_key=0)
_STAGES = Group("One stage, after those before it that are not done", sort_key=1)

RecipeFile = Annotated[Path, Parameter(help="The recipe, a YAML file.")]
OutFolder = Annotated[
    Path | None, Parameter(name="--out", help="The run directory (default: runs/NAME).")
]


@app.command(group=_JOBS, sort_key=0)
def run(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Run every stage of a recipe, from corpus to report; what is done is not done again."""
    _run_until("report", recipe, out)


@app.command(group=_JOBS, sort_key=1)
def tune(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Search the recipe's `search` section for the best settings (Ray Tune and Optuna)."""
    from raykd.run import open_run
    from raykd.tuning import tune as tune_run

    tune_run(open_run(recipe, out))


@app.command(group=_JOBS, sort_key=2)
def best(
    folder: Annotated[Path, Parameter(name="RUN", help="The run directory of `raykd tune`.")], /
) -> None:
    """Show what `raykd tune` found, and write the winner's recipe to RUN/best.yaml."""
    from raykd.best import show_best

    show_best(folder)


_SEARCH_DEFAULTS = (None, None, 10, 1.2, 0.75, "exact", "none")


@app.command(group=_JOBS, sort_key=3)
def search(
    recipe: Annotated[
        Path | None, Parameter(help="A recipe, to run its stages up to this.")
    ] = None,
    /,
    *,
    corpus: Annotated[
        list[Path] | None,
        Parameter(consume_multiple=True, negative="", help="Files or folders to search."),
    ] = None,
    queries: Annotated[
        Path | None, Parameter(help="A table with columns query_id and text.")
    ] = None,
    out: OutFolder = None,
    top_k: Annotated[int, Parameter(help="Hits a query.")] = 10,
    k1: Annotated[float, Parameter(help="BM25: how soon a repeated term stops counting.")] = 1.2,
    b: Annotated[float, Parameter(help="BM25: how much a long unit is held back.")] = 0.75,
    norms: Annotated[
        Literal["exact", "lucene"], Parameter(help="Lengths as they are, or in Lucene's one byte.")
    ] = "exact",
    keywords: Annotated[
        Literal["none", "rake"], Parameter(help="Search texts as given, or their RAKE keywords.")
    ] = "none",
) -> None:
    """Find the top-k units of each query by exact BM25, for a recipe or for any two tables.

    Either RECIPE, or --corpus and --queries and --out. Corpus rows have `text`, and may have
    `unit_id` or `doc_id` (kept) and `title` (searched with the text).
    """
    if recipe is not None:
        if (corpus, queries, top_k, k1, b, norms, keywords) != _SEARCH_DEFAULTS:
            raise InputError(
                f"raykd search {recipe}: the recipe says what is searched and how; of the options "
                "only --out goes with it"
            )
        _run_until("search", recipe, out)
        return
    if corpus is None or queries is None or out is None:
        raise InputError(
            "raykd search: give a RECIPE, or --corpus PATH... --queries PATH --out DIR"
        )
    from raykd.retrieval.pipeline import search_files
    from raykd.retrieval.scoring import Bm25Config

    bm25 = Bm25Config.parse({"k1": k1, "b": b, "norms": norms}, "raykd search")
    manifest = search_files(corpus, queries, out, top_k=top_k, bm25=bm25, keywords=keywords)
    counts = ", ".join(f"{name} {value:g}" for name, value in sorted(manifest.counts.items()))
    print(f"{out / 'hits.parquet'}: {counts}")  # noqa: T201  # the command's answer


def _stage_command(name: str, description: str, position: int) -> None:
    def command(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
        _run_until(name, recipe, out)

    command.__doc__ = description
    app.command(command, name=name, group=_STAGES, sort_key=position)


_DESCRIPTIONS = {
    "docstrings": "Make the demo's corpus and task from installed packages' documentation.",
    "task": "Load and check the task's examples.",
    "ingest": "Cut the general corpus into units and shards.",
    "contextualize": "Gather, deduplicate and check the units found: the contextualized corpus.",
    "teacher": "Fine-tune the teacher on the task.",
    "inject": "Distil the teacher into students on unlabelled text.",
    "adapt": "Train the students on the task.",
    "evaluate": "Score teacher, students and baselines.",
    "report": "Write results.json and report.html.",
}
for _position, (_name, _description) in enumerate(_DESCRIPTIONS.items()):
    _stage_command(_name, _description, _position)


def main() -> None:
    """Entry point; exit code 0, 2 for the user's mistake, 1 for ours."""
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        arguments.remove("--debug")
        os.environ["RAYKD_DEBUG"] = "1"
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    try:
        app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return USER_MISTAKE
    except InputError as error:
        return _fail(f"error: {error}", USER_MISTAKE)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last finished step", 130)
    except OSError as error:
        if remedy := _REMEDIES.get(error.errno or 0):
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"error: {where}{error.strerror}; {remedy}", USER_MISTAKE)
        return _fail(_as_ours(error), OUR_MISTAKE)
    except Exception as error:
        return _fail(_as_ours(error), OUR_MISTAKE)
    return 0


def _as_ours(error: Exception) -> str:
    first_line = str(error).strip().split("\n", maxsplit=1)[0]
    return (
        f"internal error: {type(error).__name__}: {first_line}\n"
        "This is a fault of raykd. Run again with --debug for the traceback, and report it."
    )


def _fail(message: str, code: int) -> int:
    if os.environ.get("RAYKD_DEBUG") == "1":
        traceback.print_exc()
    print(message, file=sys.stderr)  # noqa: T201  # the command's answer
    return code


def _run_until(last: str, recipe: Path, out: Path | None) -> None:
    from raykd.run import open_run
    from raykd.stages import run_stages

    run_stages(open_run(recipe, out), last)


if __name__ == "__main__":
    main()
