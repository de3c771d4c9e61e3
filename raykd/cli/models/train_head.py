"""The command `raykd train-head`."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raykd import progress
from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import (
    ingest,
    one_of_equal,
    shard_paths,
    sources_with_digests,
)
from raykd.errors import InputError
from raykd.models.masked_lm import missing_head_weights
from raykd.models.resolve import digest_of_model
from raykd.models.tokenization.positions import check_max_length
from raykd.objectives.shared.generator_model import TrainHeadConfig
from raykd.storage.locations import location_of
from raykd.storage.manifest import Draft, check_output, digest_of, digest_of_file, write_once
from raykd.storage.remote.output import output_at
from raykd.storage.schemas import TEXT_FILE
from raykd.training.distributed.config import WorkersConfig
from raykd.training.masked_lm_head.head import HeadJob
from raykd.training.masked_lm_head.report import check_report, read_report, summary
from raykd.workflow import steps
from raykd.workflow.generators import train_heads, write_text

_DEFAULTS = TrainHeadConfig()


def train_head(
    model: Annotated[
        str,
        Parameter(help="Encoder without a head: folder, package:NAME/FOLDER, or hub name."),
    ],
    /,
    *,
    text: Annotated[
        list[str],
        Parameter(consume_multiple=True, negative="", help="Files or folders of text to train on."),
    ],
    out: Annotated[Path, Parameter(name="--out", help="Output directory or URL.")],
    num_steps: Annotated[int, Parameter(help="Optimizer steps.")] = _DEFAULTS.num_steps,
    batch_size: Annotated[int, Parameter(help="Rows per step.")] = _DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, Parameter(help="Peak learning rate.")
    ] = _DEFAULTS.learning_rate,
    max_length: Annotated[int, Parameter(help="Tokens kept per row.")] = _DEFAULTS.max_length,
    max_perplexity_ratio: Annotated[
        float, Parameter(help="Maximum perplexity, relative to the unigram baseline.")
    ] = _DEFAULTS.max_perplexity_ratio,
    min_accuracy_gain: Annotated[
        float, Parameter(help="Minimum gain in accuracy over the most frequent token.")
    ] = _DEFAULTS.min_accuracy_gain,
    seed: Annotated[int, Parameter(help="Seed of the head, the batches and the masks.")] = 1,
    use_gpu: Annotated[bool, Parameter(negative="", help="Train on a GPU.")] = False,
) -> None:
    """Train the head on the text, and write the model if the head is good enough."""
    config = TrainHeadConfig.parse(
        {
            "num_steps": num_steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "max_length": max_length,
            "max_perplexity_ratio": max_perplexity_ratio,
            "min_accuracy_gain": min_accuracy_gain,
            "seed": seed,
        },
        "raykd train-head",
    )
    with output_at(out) as folder:
        _train_head(model, text, folder.absolute(), config, use_gpu=use_gpu)


def _train_head(
    model: str, text: Sequence[str], out: Path, config: TrainHeadConfig, *, use_gpu: bool
) -> None:
    check_output(out)
    if not missing_head_weights(model):
        raise InputError(
            f"model {model}: its checkpoint already has a masked-language-model head; use it as is"
        )
    check_max_length("raykd train-head: --max-length", config.max_length, model)
    paths = [location_of(path) for path in text]
    inputs = {
        "model": digest_of_model(model),
        "text": digest_of(sorted(one_of_equal(sources_with_digests(paths, out)))),
    }
    work = out.with_name(f".{out.name}.work")

    def write(draft: Draft) -> None:
        units = ingest(CorpusConfig(paths=tuple(text)), paths, work / "units")
        draw = steps.drawing(shard_paths(work / "units"), config.seed, "text")
        write_text(work / "units", draw, config, work / "text", {"units": units.digest})
        text_file = work / "text" / TEXT_FILE
        job = HeadJob(
            name="train-head",
            out=work / "model",
            model=model,
            text=text_file,
            text_name=", ".join(text),
            head=config,
            inputs={"model": inputs["model"], "text": digest_of_file(text_file)},
        )
        workers = WorkersConfig(use_gpu=use_gpu)
        train_heads([job], workers, storage=work / "ray_train")
        check_report(read_report(job.out), config, _option)
        shutil.copytree(job.out, draft.directory, dirs_exist_ok=True)

    write_once(out, "train_head", config.training_settings(), inputs, write)
    # An existing output may have been written with less strict limits.
    check_report(read_report(out), config, _option)
    shutil.rmtree(work, ignore_errors=True)
    progress.say(f"{out}: {summary(read_report(out))}")


def _option(setting: str) -> str:
    return "--" + setting.replace("_", "-")
