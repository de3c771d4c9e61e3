"""Command-line application: commands for whole jobs, and one command per stage."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from raykd import progress
from raykd.cli.exit_codes import exit_code_of
from raykd.cli.options.reading import NO_READING_OPTIONS, ReadingOptions
from raykd.cli.options.recipe import OutFolder, RecipeFile, check_is_yaml, run_until
from raykd.errors import InputError
from raykd.operations.expected_version import check_expected_version

# Heavy imports are inside the commands, so that `raykd --help` is fast.

app = App(
    name="raykd",
    help="Distill a fine-tuned text classifier into a small one on Ray: retrieve a corpus for the "
    "task, train students on it, tune their settings, report scores and costs.",
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

_JOBS = Group("Jobs", sort_key=0)
_CLUSTER = Group("Clusters and runs", sort_key=1)
_STAGES = Group("Stages (earlier stages are run first unless completed)", sort_key=2)


@app.command(group=_JOBS, sort_key=0)
def run(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Run every stage of a recipe, from corpus to report; completed stages are skipped."""
    run_until("report", recipe, out)


@app.command(group=_JOBS, sort_key=1)
def tune(
    recipe: RecipeFile,
    /,
    *,
    out: OutFolder = None,
    trials: Annotated[
        str | None,
        Parameter(
            help="Number of trials, in place of tune.num_trials; +N: N more than have ended.",
        ),
    ] = None,
) -> None:
    """Tune the settings in the recipe's `tune` section (Ray Tune and Optuna)."""
    check_is_yaml(recipe)
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.tune.sweep import with_trials
    from raykd.workflow.tune.tuning import tune as tune_run

    with optional_output_at(out) as folder:
        run = open_run(recipe, folder, needs_dev=False)
        tune_run(run if trials is None else with_trials(run, trials))


@app.command(group=_JOBS, sort_key=1)
def distill(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Train and evaluate a recipe's teacher and students: all stages of `run` but the report."""
    run_until("evaluate", recipe, out)


app.command(
    "raykd.cli.crossval:crossval",
    name="crossval",
    help="Score a recipe with few labeled rows by cross-validation, and train its student on all "
    "of them.\n\n"
    "For a recipe without dev rows. Each fold is held out once; with keep: best, numbers of epochs "
    "are chosen by the scores of all folds. Writes OUT/report.html, results.json and student. "
    "Completed trainings are skipped.",
    group=_JOBS,
    sort_key=1,
)

app.command(
    "raykd.cli.best:best",
    name="best",
    help="Show the outcome of `raykd tune`, and write the winner's recipe to RUN/best.yaml.\n\n"
    "Shows the winner, its rivals, stopped and failed trials, the importance of the keys, and the "
    "cost.",
    group=_JOBS,
    sort_key=2,
)

app.command(
    "raykd.cli.reproduce:reproduce",
    name="reproduce",
    help="Make a table of a paper: the missing runs, then our scores next to the paper's.\n\n"
    "Runs of one task share teacher, corpora and injections. Writes OUT/table.md, table.json and "
    "table.html. Without TABLE, lists the tables.",
    group=_JOBS,
    sort_key=2,
)

app.command(
    "raykd.cli.search:search",
    name="search",
    help="Find the top-k units per query by exact BM25, by embeddings, or by both.\n\n"
    "Give --corpus, --queries and --out to search any corpus with any queries. Corpus rows have "
    "the column text, and optionally unit_id or doc_id (kept in the hits) and title (searched with "
    "the text). Give RECIPE to run the stages of a recipe up to retrieval, as `raykd retrieve` "
    "does.",
    group=_JOBS,
    sort_key=3,
)


@app.command(
    group=_JOBS,
    sort_key=4,
    help="Build the contextualized corpora of several tasks in one pass over a general corpus.\n\n"
    "Writes OUT/TASK/contextualized for each task, and prints a summary. For the recipe of a run, "
    "runs the stages up to `contextualize`.",
)
def corpus(
    recipe: Annotated[Path, Parameter(help="Recipe of a run, or YAML file with several tasks.")],
    /,
    *,
    out: OutFolder = None,
) -> None:
    """Build the corpora, and print a summary and their folders."""
    check_is_yaml(recipe)
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.corpora import contextualize_recipe, summary

    with optional_output_at(out) as folder:
        made = contextualize_recipe(recipe, folder)
    print(summary(made))  # noqa: T201  # the command's answer
    for one_corpus in made:
        print(one_corpus.folder)  # noqa: T201  # as above


@app.command(
    group=_JOBS,
    sort_key=5,
    help="Remove duplicate units, and near duplicates with --near, from a corpus.\n\n"
    "CORPUS is read as by `raykd search --corpus`; it can also be the output of ingest. Of units "
    "with equal text, OUT/units keeps the one with the smallest id. A near duplicate is removed if "
    "a similar unit with a smaller id is kept; OUT/removed.parquet lists that unit and their "
    "Jaccard similarity. OUT/units contains only the id and the text (with the title first) of a "
    "row: use the id (unit_id or doc_id) to join other columns.",
)
def dedup(
    corpus: Annotated[
        list[str],
        Parameter(name="CORPUS", negative="", help="Files, folders or URLs of text rows."),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="Output directory or URL.")],
    near: Annotated[
        bool, Parameter(negative="", help="Remove near duplicates too.", show_default="no")
    ] = False,
    threshold: Annotated[
        float | None,
        Parameter(
            help="--near: smallest Jaccard similarity of two units' shingles.", show_default="0.8"
        ),
    ] = None,
    shingle_words: Annotated[
        int | None, Parameter(help="--near: words per shingle.", show_default="5")
    ] = None,
    num_bands: Annotated[
        int | None, Parameter(help="--near: bands of a MinHash signature.", show_default="16")
    ] = None,
    rows_per_band: Annotated[
        int | None, Parameter(help="--near: rows per band.", show_default="8")
    ] = None,
    seed: Annotated[
        int | None, Parameter(help="--near: seed of the hash functions.", show_default="0")
    ] = None,
    reading: ReadingOptions = NO_READING_OPTIONS,
) -> None:
    """Check the options, remove the duplicates, and print a summary."""
    options = {
        "threshold": threshold,
        "shingle_words": shingle_words,
        "num_bands": num_bands,
        "rows_per_band": rows_per_band,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if given and not near:
        raise InputError(
            f"raykd dedup: {', '.join('--' + name.replace('_', '-') for name in given)}: these "
            "settings require --near; add it, or remove them"
        )
    from raykd.cli import summaries
    from raykd.dedup.minhash import NearDuplicatesConfig
    from raykd.dedup.pipeline import DedupConfig
    from raykd.dedup.pipeline import dedup as dedup_corpus
    from raykd.storage.locations import location_of
    from raykd.storage.remote.output import output_at

    settings = NearDuplicatesConfig.parse(given, "raykd dedup")
    config = DedupConfig(near_duplicates=settings if near else None)
    with output_at(out) as folder:
        manifest = dedup_corpus(
            [location_of(path) for path in corpus], folder, config, reading=reading.reading()
        )
    print(summaries.of_dedup(out, folder, manifest))  # noqa: T201  # the command's answer


app.command(
    "raykd.cli.augment:augment",
    name="augment",
    help="Augment the rows of a task by replacing words (TaskDA, TinyBERT's augmentation).\n\n"
    "Writes OUT/examples.parquet, labeled rows, each followed by its augmented copies, and "
    "OUT/text.parquet, the same without labels.",
    group=_JOBS,
    sort_key=6,
)

app.command(
    "raykd.cli.models.predict:predict",
    name="predict",
    help="Predict the rows of any files with a trained classifier, all columns kept.\n\n"
    "Writes OUT/part-00000.parquet and so on: the rows in their order, with the columns prediction "
    "(the class, or the score of a regression), probability and probabilities. An interrupted "
    "command continues where it stopped.",
    group=_JOBS,
    sort_key=7,
)

app.command(
    "raykd.cli.models.export:export",
    name="export",
    help="Export a model as one ONNX file, after checking that its outputs equal PyTorch's.\n\n"
    "With --int8, its weights are int8, and nothing is written if that costs more than --max-loss "
    "on the dev rows. "
    "Its inputs are the outputs of the tokenizer in the model's folder, in batches of any size and "
    'length, padded on the right: session.run(["logits"], dict(tokenizer(texts, padding=True, '
    'truncation=True, return_tensors="np"))). Column i of logits is id2label[i] of the folder\'s '
    'config.json. Needs pip install ".[onnx]".',
    group=_JOBS,
    sort_key=7,
)

app.command(
    "raykd.cli.models.suggest:suggest",
    name="suggest",
    help="Suggest the next rows to label: texts on which the student of a run is unsure, and which "
    "differ from each other.\n\n"
    "Writes the task's columns of text, its label column, empty, and the student's prediction. "
    "Texts that are already rows of the task are left out.",
    group=_JOBS,
    sort_key=8,
)

app.command(
    "raykd.cli.models.train_head:train_head",
    name="train-head",
    help="Train a masked-LM head for an encoder without one, so that it can generate text.\n\n"
    "Writes OUT, a masked language model with its tokenizer, for raykd augment --model and for "
    "objective.generator of a recipe. OUT/head.json reports its accuracy on held-out words.",
    group=_JOBS,
    sort_key=8,
)

app.command(
    "raykd.cli.init:init",
    name="init",
    help="Write a starter recipe for your own task: NAME.yaml, with a comment at each choice.\n\n"
    "Text columns, label column, classes and metric are found from the files; options name what "
    "cannot be found.",
    group=_JOBS,
    sort_key=9,
)

app.command(
    "raykd.cli.schema:schema",
    name="schema",
    help="Print the JSON schema of recipes, for editors and checkers; or a reference of all keys.",
    group=_JOBS,
    sort_key=10,
)

app.command(
    "raykd.cli.submit:submit",
    name="submit",
    help="Submit a command to a Ray cluster as a job, and follow it: raykd submit -- run RECIPE "
    "--out URL.\n\n"
    "Sends the recipe and the task files that it names by relative paths; absolute paths and URLs "
    "are read on the cluster. Ctrl-C ends the output, not the job. Also --list, --logs ID and "
    "--stop ID.",
    group=_CLUSTER,
    sort_key=0,
)

app.command(
    "raykd.cli.status:status",
    name="status",
    help="Show the stages of a run (done, running, left), its shards and trials, the remaining "
    "time where it is known, and its CPU and GPU hours.\n\n"
    "With the section prices of the recipe, also the cost. Nothing is changed.",
    group=_CLUSTER,
    sort_key=1,
)

app.command(
    "raykd.cli.check:check",
    name="check",
    help="Check every manifest of a run, and every file by its digest; changes nothing.\n\n"
    "Prints what is damaged and what rerunning the command would write again. Exit code 1 if "
    "anything is damaged.",
    group=_CLUSTER,
    sort_key=2,
)

app.command(
    "raykd.cli.doctor:doctor",
    name="doctor",
    help="Check this machine, and with --address a cluster and all its nodes: versions, token, "
    "GPUs, disk, shared memory, clock.\n\n"
    "--out also writes, reads, lists and deletes a small file there. Each finding has a remedy. "
    "Exit code 1 if there is a fault.",
    group=_CLUSTER,
    sort_key=3,
)


def _stage_command(name: str, description: str, position: int) -> None:
    def command(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
        run_until(name, recipe, out)

    command.__doc__ = description
    app.command(command, name=name, group=_STAGES, sort_key=position)


_DESCRIPTIONS = {
    "docstrings": "Build the demo's corpus and task from the documentation of installed packages.",
    "task": "Load and check the task's examples.",
    "ingest": "Split the general corpus into units and shards.",
    "retrieve": "Find the top-k units per task sentence.",
    "contextualize": "Collect, deduplicate and filter the retrieved units.",
    "generator": "Train masked-LM heads of generators (CILDA, MATE-KD) without one.",
    "teacher": "Fine-tune the teacher on the task.",
    "inject": "Distill the teacher into students on unlabeled text.",
    "adapt": "Train the students on the task.",
    "evaluate": "Score teacher, students and baselines, and measure inference costs.",
    "report": "Write results.json and report.html.",
}
for _position, (_name, _description) in enumerate(_DESCRIPTIONS.items()):
    _stage_command(_name, _description, _position)


def main() -> None:
    """Run the command line; exit code 0, 2 for a user error, 1 for an internal error."""
    # File names and the terminal may use other encodings than UTF-8.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text streams
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        arguments.remove("--debug")
        os.environ["RAYKD_DEBUG"] = "1"
    sys.exit(_exit_code(arguments))


def _take_log_format(arguments: list[str]) -> list[str]:
    """Set the format of the log from an option before `--`; return the other arguments."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = arguments[:end]
    for number, argument in enumerate(own):
        option, mark, value = argument.partition("=")
        if option == "--log-format":
            taken = 1 if mark else 2
            value = value if mark else "".join(own[number + 1 : number + 2])
            if value not in progress.LOG_FORMATS:
                formats = " or ".join(progress.LOG_FORMATS)
                raise InputError(f"--log-format {value}: unknown; use {formats}")
            os.environ[progress.LOG_VARIABLE] = value
            return own[:number] + own[number + taken :] + arguments[end:]
    return arguments


def _exit_code(arguments: list[str]) -> int:
    def run_command() -> object:
        check_expected_version()
        return app(_take_log_format(arguments), exit_on_error=False, print_error=True)

    return exit_code_of(run_command)


if __name__ == "__main__":
    main()
