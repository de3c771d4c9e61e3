"""Training of a masked-LM head on a frozen encoder, as a job.

A sentence encoder or classifier has no head that predicts words, and CILDA, MATE-KD and TaskDA need
one. The head's last map is the encoder's word embeddings (tied, frozen); its other weights start at
random and learn masked-language modeling (Devlin et al. 2019, "BERT: Pre-training of Deep
Bidirectional Transformers for Language Understanding", arXiv:1810.04805, section 3.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.models.encoder import Encoder, load_tokenizer, save_tokenizer
from raykd.models.masked_lm import MaskedLm, load_masked_lm
from raykd.models.tokenization.tokens import TokenizedRows, tokenize_table
from raykd.objectives.base import LossTerms, Models, Objective, ObjectiveConfig
from raykd.objectives.shared.generator_model import TrainHeadConfig
from raykd.storage.manifest import Draft, Manifest, commit, finished, stage_key
from raykd.storage.remote.task_files import TaskFiles
from raykd.training.checkpoint import CheckpointFolder
from raykd.training.evaluator import Evaluator
from raykd.training.events import TrainingEvents, logged_events
from raykd.training.logging.tracking import Tracking, tracked_metrics_writer
from raykd.training.loop import train
from raykd.training.masked_lm_head.masked_words import (
    Measured,
    examples,
    masked_at_random,
    measure,
    measure_unigram,
    token_text,
    with_words,
    word_frequencies,
)
from raykd.training.masked_lm_head.report import REPORT_FILE, HeadReport
from raykd.training.settings import TrainingConfig
from raykd.training.trainers import Worker

_STAGE = "generator"
_MIN_TEXTS = 10
_TEXT_COLUMNS = ("text", "sentence1", "sentence2", "label")


@dataclass(frozen=True)
class HeadJob:
    """Training of a masked-LM head for one model; `out` becomes a masked language model.

    Attributes:
        name: name in messages.
        out: folder of model, tokenizer, `head.json` and metrics files.
        model: reference of the encoder.
        text: table of units or examples (see `schemas`).
        text_name: description of the text, for the report.
        head: settings of the training.
        inputs: digests of model and text.
        tracking: trackers of the training.
    """

    name: str
    out: Path
    model: str
    text: Path
    text_name: str
    head: TrainHeadConfig
    inputs: Mapping[str, str]
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def stage(self) -> str:
        """Stage of the manifest."""
        return _STAGE

    def files(self) -> TaskFiles:
        """Files that the training reads and writes."""
        own = TaskFiles((self.model, self.text), (self.out, self.unfinished))
        return own + self.tracking.files(self.name)

    @property
    def config(self) -> TrainingConfig:
        """Training settings; rows of similar length share a batch."""
        head = self.head
        return TrainingConfig(
            num_steps=head.num_steps,
            batch_size=head.batch_size,
            bucket_batches=50,
            learning_rate=head.learning_rate,
            max_length=head.max_length,
            precision=head.precision,
        )

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.head.seed

    def settings(self) -> dict[str, Any]:
        """Settings that determine the result, together with the inputs."""
        return {"head": self.head.training_settings()}

    def key(self) -> str:
        """Digest of settings and inputs."""
        return stage_key(self.stage, self.settings(), self.inputs)

    def finished(self) -> Manifest | None:
        """Manifest of the completed job; None if it is not completed."""
        return finished(self.out, self.key())

    def num_steps(self) -> int:
        """Number of optimizer steps."""
        return self.head.num_steps

    @property
    def unfinished(self) -> Path:
        """Working folder of an unfinished training, next to `out`."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    def checkpoints(self, every_s: float) -> CheckpointFolder:
        """Checkpoints in the folder `unfinished`."""
        return CheckpointFolder(
            self.unfinished, self.stage, self.settings(), self.inputs, every_s=every_s
        )


class _HeadConfig(ObjectiveConfig):
    name: str = "masked_lm_head"

    @property
    def mixes_examples(self) -> bool:
        """Always true: the loss is a mean over the batch's masked words."""
        return True


class MaskedLmHead(Objective):
    """Cross-entropy of masked words; only the head is trained, on an encoder without dropout."""

    trains_classifier = False

    def __init__(self, model: MaskedLm, mask_probability: float) -> None:
        # The loop calls the trained model the student.
        models = Models(student=Encoder(model.model), generator=model)
        super().__init__(_HeadConfig(), models)
        self._mask_probability = mask_probability
        self.requires_grad_(False)
        for parameter in model.head_parameters():
            parameter.requires_grad_(True)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        return {"masked_words": "cross-entropy of the words that were masked"}

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: no part with dropout is trained."""
        return super().train(False)

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Loss of a batch, each of whose rows has at least one word."""
        model = self.generator
        assert model is not None
        ids, mask = batch["input_ids"], batch["attention_mask"]
        is_masked = masked_at_random(model.are_words(ids, mask), self._mask_probability)
        masked_ids = ids.masked_fill(is_masked, model.mask_id)
        with torch.no_grad():
            states = model.last_states(masked_ids, mask, batch.get("token_type_ids"))
        logits, words = model.predict(states[is_masked], masked_ids), ids[is_masked]
        accuracy = (logits.argmax(-1) == words).float().mean()
        loss = F.cross_entropy(logits, words)
        return LossTerms.weighted(masked_words=(1.0, loss)).measuring(accuracy=accuracy)


def run_head(
    job: HeadJob,
    worker: Worker,
    *,
    checkpoint_every_s: float = 60.0,
    events: TrainingEvents | None = None,
) -> None:
    """Train the head, resuming from the newest checkpoint, measure it, and commit the model.

    Args:
        job: the head to train.
        worker: this process.
        checkpoint_every_s: seconds between checkpoints.
        events: handler of the training's events.

    Raises:
        InputError: the text has too few rows with words.
        FloatingPointError: see `loop.train`.
    """
    events = events or TrainingEvents()
    # The process may have trained another model with another number of threads.
    torch.set_num_threads(worker.num_threads)
    tokenizer = load_tokenizer(job.model)
    model = load_masked_lm(job.model, seed=job.seed, new_head=True)
    rows, held_out = _rows_of(job, tokenizer, model)
    objective = MaskedLmHead(model, job.head.mask_probability)
    pad_id: int = tokenizer.pad_token_id or 0
    model.to(worker.device)
    untrained = _measured(job, model, held_out, pad_id)
    frequencies = word_frequencies(model, rows)
    _start_from(frequencies, model)
    checkpoints = job.checkpoints(checkpoint_every_s)
    with tracked_metrics_writer(
        job.unfinished,
        job.tracking,
        name=job.name,
        stage=job.stage,
        key=job.key(),
        settings=job.settings(),
        on_lost=events.on_tracker_lost,
    ) as metrics_writer:
        num_steps = train(
            objective,
            rows,
            job.config,
            pad_id=pad_id,
            regression=False,
            seed=job.seed,
            worker=worker,
            evaluator=Evaluator(model, job.config, len(rows)),
            checkpoints=checkpoints,
            events=logged_events(events, metrics_writer),
        )
    trained = _measured(job, model, held_out, pad_id)
    head = job.head
    unigram = measure_unigram(
        model,
        frequencies,
        held_out,
        pad_id=pad_id,
        probability=head.mask_probability,
        seed=head.seed,
    )
    report = HeadReport(
        model=job.model,
        text=job.text_name,
        num_steps=num_steps,
        num_rows=len(rows),
        num_held_out_rows=len(held_out),
        num_masked=trained.num_masked,
        num_parameters=sum(p.numel() for p in model.head_parameters()),
        perplexity=trained.perplexity,
        accuracy=trained.accuracy,
        untrained_perplexity=untrained.perplexity,
        untrained_accuracy=untrained.accuracy,
        unigram_perplexity=unigram.perplexity,
        unigram_accuracy=unigram.accuracy,
        most_frequent=token_text(tokenizer, int(frequencies.argmax())),
        examples=examples(model, held_out, tokenizer, seed=head.seed),
    )
    with commit(job.out, job.stage, job.settings(), job.inputs) as draft:
        metrics_writer.move(draft.directory)
        _save(model, tokenizer, report, draft)
    checkpoints.remove()


def _start_from(frequencies: NDArray[np.float64], model: MaskedLm) -> None:
    """Initialize the head's bias with the words' log frequencies."""
    biases = [p for p in model.head_parameters() if p.shape == (model.vocabulary_size,)]
    with torch.no_grad():
        for bias in biases:
            bias.copy_(torch.from_numpy(np.log(frequencies)))


def _save(
    model: MaskedLm, tokenizer: PreTrainedTokenizerBase, report: HeadReport, draft: Draft
) -> None:
    model.to("cpu").model.save_pretrained(draft.directory)
    save_tokenizer(tokenizer, draft.directory)
    text = report.model_dump_json(indent=2) + "\n"
    (draft.directory / REPORT_FILE).write_text(text, encoding="utf-8")
    draft.counts.update(
        num_rows=report.num_rows, num_steps=report.num_steps, num_parameters=report.num_parameters
    )


def _measured(job: HeadJob, model: MaskedLm, rows: TokenizedRows, pad_id: int) -> Measured:
    head = job.head
    return measure(model, rows, pad_id=pad_id, probability=head.mask_probability, seed=head.seed)


def _rows_of(
    job: HeadJob, tokenizer: PreTrainedTokenizerBase, model: MaskedLm
) -> tuple[TokenizedRows, TokenizedRows]:
    """Training rows and held-out rows that contain words."""
    schema = pq.read_schema(job.text)
    columns = [name for name in _TEXT_COLUMNS if name in schema.names]
    tables = split(pq.read_table(job.text, columns=columns), job.head)
    special_ids = model.special_ids.numpy()
    rows, held_out = (
        with_words(tokenize_table(tokenizer, table, max_length=job.head.max_length), special_ids)
        for table in tables
    )
    if not len(rows) or not len(held_out):
        raise InputError(
            f"train_head: {job.text_name} has too few texts to train a masked-LM head and to "
            f"measure it on others: at least {_MIN_TEXTS} different ones with words are needed; "
            "give more text"
        )
    return rows, held_out


def split(table: pa.Table, head: TrainHeadConfig) -> tuple[pa.Table, pa.Table]:
    """Split rows into training rows and `held_out_rows` rows, but at most 10 % of the texts.

    Rows with the same text, or the same first sentence, are in the same part.
    """
    keys = table["text" if "text" in table.column_names else "sentence1"].combine_chunks()
    encoded = pc.dictionary_encode(keys)
    groups = encoded.indices.to_numpy(zero_copy_only=False)
    num_groups = len(encoded.dictionary)
    if num_groups < _MIN_TEXTS:
        return table.slice(0, 0), table.slice(0, 0)
    order = np.random.default_rng(head.seed).permutation(num_groups)
    # Hold out groups in that order until there are enough rows.
    sizes = np.cumsum(np.bincount(groups, minlength=num_groups)[order])
    num_held_out = int(np.searchsorted(sizes, head.held_out_rows)) + 1
    num_held_out = min(num_held_out, max(1, num_groups // 10))
    is_held_out = np.isin(groups, order[:num_held_out])
    return table.filter(pa.array(~is_held_out)), table.filter(pa.array(is_held_out))
