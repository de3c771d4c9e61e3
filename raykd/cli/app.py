"""The command line: one command for a whole run, one for each stage."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from raykd.cli.exit_codes import exit_code_of
from raykd.cli.reading_options import AS_FOUND, ReadingOptions
from raykd.cli.recipe_options import OutFolder, RecipeFile, run_until
from raykd.errors import InputError

# Heavy imports stand inside the commands, so that `raykd --help` answers at once.

app = App(
    name="raykd",
    help="Turn a large fine-tuned text classifier into a small one: contextualize a corpus, "
    "distil, search, on Ray.",
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

_JOBS = Group("A whole job", sort_key=0)
_STAGES = Group("One stage, after those before it that are not done", sort_key=1)


@app.command(group=_JOBS, sort_key=0)
def run(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Run every stage of a recipe, from corpus to report; what is done is not done again."""
    run_until("report", recipe, out)


@app.command(group=_JOBS, sort_key=1)
def tune(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Search the recipe's `tune` section for the best settings (Ray Tune and Optuna)."""
    from raykd.workflow.run import open_run
    from raykd.workflow.tuning import tune as tune_run

    tune_run(open_run(recipe, out))


@app.command(group=_JOBS, sort_key=1)
def distill(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Train a recipe's teacher and students, and score them: what `run` does before its report."""
    run_until("evaluate", recipe, out)


@app.command(group=_JOBS, sort_key=2)
def best(
    folder: Annotated[Path, Parameter(name="RUN", help="The run directory of `raykd tune`.")], /
) -> None:
    """Show what `raykd tune` found, and write the winner's recipe to RUN/best.yaml."""
    from raykd.workflow.best import show_best

    show_best(folder)


app.command("raykd.cli.search:search", name="search", group=_JOBS, sort_key=3)


@app.command(group=_JOBS, sort_key=4)
def corpus(
    recipe: Annotated[
        Path, Parameter(help="A YAML file that names several tasks, or the recipe of a run.")
    ],
    /,
    *,
    out: OutFolder = None,
) -> None:
    """Make the contextualized corpora of several tasks, in one pass over a general corpus.

    Writes OUT/TASK/contextualized for each task, and says how they came out. Of a run's recipe,
    the stages up to `contextualize` are run.
    """
    from raykd.storage.outputs import output_path
    from raykd.workflow.corpora import MadeCorpus, make_corpora, summary
    from raykd.workflow.recipe.corpora_recipe import is_corpora_recipe, load_corpora

    if is_corpora_recipe(recipe):
        corpora = load_corpora(recipe)
        made = make_corpora(corpora, output_path(out or Path("runs") / corpora.name))
    else:
        from raykd.contextualize.card import read_card
        from raykd.workflow.run import open_run
        from raykd.workflow.stages import run_stages

        one = open_run(recipe, out)
        run_stages(one, "contextualize")
        texts = [text for text in one.recipe.corpus_texts if text.kind == "contextualized"]
        if not texts:
            raise InputError(f"{recipe}: none of its variants learns from a contextualized corpus")
        folders = {text: one.training_text(text) for text in texts}
        name = one.recipe.task.name
        made = [
            MadeCorpus(
                name if text.corpus is None else f"{name}@{text.corpus}", folder, read_card(folder)
            )
            for text, folder in folders.items()
        ]
    print(summary(made))  # noqa: T201  # the command's answer
    for one_corpus in made:
        print(one_corpus.folder)  # noqa: T201  # as above


@app.command(group=_JOBS, sort_key=5)
def dedup(
    corpus: Annotated[
        list[str],
        Parameter(name="CORPUS", negative="", help="Files or folders of text rows, or URLs."),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The directory to be written.")],
    near: Annotated[bool, Parameter(negative="", help="Remove near duplicates too.")] = False,
    threshold: Annotated[
        float, Parameter(help="Near duplicates: the least Jaccard of their shingles.")
    ] = 0.8,
    shingle_words: Annotated[int, Parameter(help="Words in a row that make a shingle.")] = 5,
    num_bands: Annotated[int, Parameter(help="MinHash: bands of a signature.")] = 16,
    rows_per_band: Annotated[int, Parameter(help="MinHash: rows of a band.")] = 8,
    seed: Annotated[int, Parameter(help="MinHash: chooses the hash functions.")] = 0,
    reading: ReadingOptions = AS_FOUND,
) -> None:
    """Remove units of equal text, and with --near such of nearly equal text, from a corpus.

    CORPUS is as in `raykd search --corpus`, or what ingest wrote. Of units of equal text, the one
    with the smallest id is kept, in OUT/units. A near duplicate is removed when a unit with a
    smaller id is kept that is near to it; OUT/removed.parquet names that unit and their Jaccard.
    OUT/units has only a row's id and its text, the title before it: give rows an id (`unit_id` or
    `doc_id`) to join other columns.
    """
    given = {
        "threshold": threshold,
        "shingle_words": shingle_words,
        "num_bands": num_bands,
        "rows_per_band": rows_per_band,
        "seed": seed,
    }
    from raykd.dedup.minhash import NearDuplicatesConfig

    settings = NearDuplicatesConfig.parse(given, "raykd dedup")
    if not near and settings != NearDuplicatesConfig():
        raise InputError(
            "raykd dedup: the settings of near duplicates need --near; add it, or leave them out"
        )
    from raykd.cli import summaries
    from raykd.dedup.pipeline import DedupConfig
    from raykd.dedup.pipeline import dedup as dedup_corpus
    from raykd.storage.locations import location_of

    config = DedupConfig(near_duplicates=settings if near else None)
    manifest = dedup_corpus(
        [location_of(given) for given in corpus], out, config, reading=reading.reading()
    )
    print(summaries.of_dedup(out, manifest))  # noqa: T201  # the command's answer


app.command(
    "raykd.cli.augment:augment",
    name="augment",
    help="Make more rows of a task by replacing words (TaskDA, TinyBERT's augmentation).\n\n"
    "Writes OUT/examples.parquet, labelled rows, each original before what was made of it, and "
    "OUT/text.parquet, the same without labels.",
    group=_JOBS,
    sort_key=6,
)

app.command(
    "raykd.models.onnx_export:export",
    name="export",
    help="Write a model as one ONNX file, once its answers are seen to be PyTorch's.\n\n"
    "The file takes what the tokenizer of the model's folder gives, batches of any size and length "
    'padded on the right: session.run(["logits"], dict(tokenizer(texts, padding=True, '
    'truncation=True, return_tensors="np"))). Column i of logits is id2label[i] of the folder\'s '
    'config.json. Needs pip install ".[onnx]".',
    group=_JOBS,
    sort_key=7,
)

app.command(
    "raykd.cli.train_head:train_head",
    name="train-head",
    help="Train a masked-LM head for an encoder that has none, so that it can generate text.\n\n"
    "Writes OUT, a folder of a masked language model with tokenizer, for raykd augment --model and "
    "for objective.generator of a recipe. OUT/head.json says how well it predicts held-out words.",
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


def _stage_command(name: str, description: str, position: int) -> None:
    def command(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
        run_until(name, recipe, out)

    command.__doc__ = description
    app.command(command, name=name, group=_STAGES, sort_key=position)


_DESCRIPTIONS = {
    "docstrings": "Make the demo's corpus and task from installed packages' documentation.",
    "task": "Load and check the task's examples.",
    "ingest": "Cut the general corpus into units and shards.",
    "contextualize": "Gather, deduplicate and check the units found: the contextualized corpus.",
    "generator": "Train masked-LM heads for generators (CILDA, MATE-KD) that have none.",
    "teacher": "Fine-tune the teacher on the task.",
    "inject": "Distil the teacher into students on unlabelled text.",
    "adapt": "Train the students on the task.",
    "evaluate": "Score teacher, students and baselines, and measure what the models cost to run.",
    "report": "Write results.json and report.html.",
}
for _position, (_name, _description) in enumerate(_DESCRIPTIONS.items()):
    _stage_command(_name, _description, _position)


def main() -> None:
    """Entry point; exit code 0, 2 for the user's mistake, 1 for ours."""
    # Names of files need not be UTF-8, nor the terminal.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text streams
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        arguments.remove("--debug")
        os.environ["RAYKD_DEBUG"] = "1"
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    return exit_code_of(lambda: app(arguments, exit_on_error=False, print_error=True))


if __name__ == "__main__":
    main()
