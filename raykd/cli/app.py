"""The command line: one command for a whole run, one for each stage."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from raykd.cli.exit_codes import exit_code_of
from raykd.cli.reading_options import AS_FOUND, ColumnNames, ReadingOptions
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
    from raykd.workflow.run import open_run
    from raykd.workflow.tuning import tune as tune_run

    tune_run(open_run(recipe, out))


@app.command(group=_JOBS, sort_key=1)
def distill(recipe: RecipeFile, /, *, out: OutFolder = None) -> None:
    """Train a recipe's teacher and students, and score them: what `run` does before its report."""
    _run_until("evaluate", recipe, out)


@app.command(group=_JOBS, sort_key=2)
def best(
    folder: Annotated[Path, Parameter(name="RUN", help="The run directory of `raykd tune`.")], /
) -> None:
    """Show what `raykd tune` found, and write the winner's recipe to RUN/best.yaml."""
    from raykd.workflow.best import show_best

    show_best(folder)


_TERM_DEFAULTS = (1.2, 0.75, "lucene", "exact", "none", None, False)
_DENSE_DEFAULTS = (None, "mean", 128, "flat", None)
_FILE_DEFAULTS = (None, AS_FOUND)
_SEARCH_DEFAULTS = (
    *(None, None, 10, None, "bm25"),
    *_TERM_DEFAULTS,
    *_DENSE_DEFAULTS,
    *_FILE_DEFAULTS,
)


@app.command(group=_JOBS, sort_key=3)
def search(
    recipe: Annotated[
        Path | None, Parameter(help="A recipe, to run its stages up to this.")
    ] = None,
    /,
    *,
    corpus: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative="", help="Files or folders to search."),
    ] = None,
    queries: Annotated[
        str | None, Parameter(help="A table with columns query_id and text.")
    ] = None,
    out: OutFolder = None,
    top_k: Annotated[int, Parameter(help="Hits a query.")] = 10,
    k1: Annotated[float, Parameter(help="BM25: how soon a repeated term stops counting.")] = 1.2,
    b: Annotated[float, Parameter(help="BM25: how much a long unit is held back.")] = 0.75,
    variant: Annotated[
        Literal["lucene", "robertson", "atire", "bm25l", "bm25+"], Parameter(help="Which BM25.")
    ] = "lucene",
    norms: Annotated[
        Literal["exact", "lucene"], Parameter(help="Lengths as they are, or in Lucene's one byte.")
    ] = "exact",
    keywords: Annotated[
        Literal["none", "rake"], Parameter(help="Search texts as given, or their RAKE keywords.")
    ] = "none",
    stemmer: Annotated[
        str | None, Parameter(help="A Snowball stemmer, as english, of corpus and queries.")
    ] = None,
    stop_words: Annotated[
        bool, Parameter(negative="", help="Leave out Lucene's 33 English stop words.")
    ] = False,
    shard_bytes: Annotated[
        int | None, Parameter(help="Text a task reads; memory and CPUs decide (default: 64 MiB).")
    ] = None,
    method: Annotated[
        Literal["bm25", "dense", "hybrid"],
        Parameter(help="Search terms, the embeddings of --model, or both, fused by their ranks."),
    ] = "bm25",
    model: Annotated[
        str | None,
        Parameter(help="The encoder: a folder, package:NAME/FOLDER, or a name on the hub."),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls"], Parameter(help="What of the model's output is the embedding.")
    ] = "mean",
    max_length: Annotated[int, Parameter(help="Tokens that the model reads of a text.")] = 128,
    index: Annotated[
        Literal["flat", "ivf", "hnsw"], Parameter(help="flat is exact; the others are faster.")
    ] = "flat",
    embeddings: Annotated[
        Path | None,
        Parameter(help="Keep the embeddings of units here, for searches with other queries."),
    ] = None,
    query_columns: ColumnNames = None,
    reading: ReadingOptions = AS_FOUND,
) -> None:
    """Find the top-k units of each query by exact BM25, by embeddings, or by both.

    The queries are those of a recipe, or of any table, and so is the corpus.

    Either RECIPE, or --corpus and --queries and --out. Corpus rows have `text`, and may have
    `unit_id` or `doc_id` (kept) and `title` (searched with the text).
    """
    of_terms = (k1, b, variant, norms, keywords, stemmer, stop_words)
    of_dense = (model, pooling, max_length, index, embeddings)
    if recipe is not None:
        of_files = (query_columns, reading)
        given = (corpus, queries, top_k, shard_bytes, method, *of_terms, *of_dense, *of_files)
        if given != _SEARCH_DEFAULTS:
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
    from raykd.cli import summaries
    from raykd.retrieval.bm25.scoring import Bm25Config
    from raykd.retrieval.pipeline import search_files
    from raykd.storage.delimited import Layout
    from raykd.storage.locations import location_of
    from raykd.text.analyzer import AnalyzerConfig

    bm25 = Bm25Config.parse({"k1": k1, "b": b, "variant": variant, "norms": norms}, "raykd search")
    analyzer = AnalyzerConfig.parse(
        {"stemmer": stemmer, "stop_words": "english" if stop_words else None}, "raykd search"
    )
    dense = embedder = None
    if method == "bm25":
        if of_dense != _DENSE_DEFAULTS:
            raise InputError(
                "raykd search: --model, --pooling, --max-length, --index and --embeddings go with "
                "--method dense or hybrid"
            )
    else:
        from raykd.retrieval.config import RetrievalConfig
        from raykd.workflow.embedder import load_embedder

        if model is None:
            raise InputError(f"raykd search: --method {method} needs the --model that embeds")
        if method == "dense" and of_terms != _TERM_DEFAULTS:
            raise InputError(
                "raykd search: --k1, --b, --variant, --norms, --keywords, --stemmer and "
                "--stop-words go with --method bm25 or hybrid"
            )
        section = {
            "model": model,
            "pooling": pooling,
            "max_length": max_length,
            "index": {"name": index},
        }
        config = RetrievalConfig.parse(
            {"method": method, "top_k": top_k, "dense": section}, "raykd search"
        )
        dense, embedder = config.dense, load_embedder("raykd search", config)
    manifest = search_files(
        [location_of(path) for path in corpus],
        location_of(queries),
        out,
        top_k=top_k,
        bm25=bm25,
        analyzer=analyzer,
        keywords=keywords,
        shard_bytes=shard_bytes,
        method=method,
        dense=dense,
        embedder=embedder,
        embeddings=embeddings,
        reading=reading.reading(),
        query_layout=Layout(None if query_columns is None else tuple(query_columns)),
    )
    print(summaries.of_search(out, manifest))  # noqa: T201  # the command's answer


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
            raise InputError(f"{recipe}: none of its arms learns from a contextualized corpus")
        folders = {text: one.textbook(text) for text in texts}
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
    "OUT/textbook.parquet, the same without labels.",
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


def _run_until(last: str, recipe: Path, out: Path | None) -> None:
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    run_stages(open_run(recipe, out), last)


if __name__ == "__main__":
    main()
