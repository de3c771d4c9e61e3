"""Trainings that raykd is compared with: manual loops, TextBrewer, the Hugging Face Trainer.

Each trains an `AutoModelForSequenceClassification` on the same batches, calls `lap` when a batch is
made, and returns the losses of its steps.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    default_data_collator,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging as transformers_logging

from raykd.models.tokenization.tokens import TokenizedRows
from raykd.training.settings import TrainingConfig

_TASK_WEIGHT = _LOGIT_WEIGHT = 0.5


@dataclass(frozen=True)
class Given:
    """Inputs of every side: saved models, rows, batches, settings."""

    student: Path
    teacher: Path
    tokenizer: PreTrainedTokenizerBase
    rows: TokenizedRows
    batches: Sequence[NDArray[np.int64]]
    config: TrainingConfig
    device: torch.device


class _Rows(Dataset[dict[str, Any]]):
    """Rows as the Hugging Face tokenizer returns them, padded to a width if it is set."""

    def __init__(self, given: Given, width: int | None) -> None:
        rows = given.rows
        pad_id = given.tokenizer.pad_token_id
        self._examples = []
        for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
            padding = 0 if width is None else width - (last - first)
            example: dict[str, Any] = {
                "input_ids": [*rows.input_ids[first:last].tolist(), *[pad_id] * padding],
                "attention_mask": [*[1] * (last - first), *[0] * padding],
            }
            if rows.token_type_ids is not None:
                types = rows.token_type_ids[first:last].tolist()
                example["token_type_ids"] = [*types, *[0] * padding]
            if rows.labels is not None:
                example["labels"] = int(rows.labels[len(self._examples)])
            if width is not None:
                example = {name: torch.tensor(value) for name, value in example.items()}
            self._examples.append(example)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._examples[index]


def loader(given: Given, lap: Callable[[], None], *, width: int | None) -> DataLoader[Any]:
    """Load the batches in order, padded to `width`, or to the longest row of each (None)."""
    pad = DataCollatorWithPadding(given.tokenizer) if width is None else default_data_collator

    def collate(examples: list[dict[str, Any]]) -> Any:
        lap()
        return dict(pad(examples))

    order = [batch.tolist() for batch in given.batches]
    return DataLoader(_Rows(given, width), batch_sampler=order, collate_fn=collate)


def load(folder: Path, given: Given, attention: str = "sdpa") -> PreTrainedModel:
    transformers_logging.disable_progress_bar()
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention
    )
    return model.to(given.device)


def optimizer_of(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Make AdamW as in tutorials: without decay of biases and norms."""
    vectors = ("bias", "LayerNorm.weight")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for name, p in named if not name.endswith(vectors)],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for name, p in named if name.endswith(vectors)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def vanilla_kd_loss(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    divergence = F.kl_div(
        F.log_softmax(logits, dim=-1), F.softmax(teacher_logits, dim=-1), reduction="batchmean"
    )
    return _LOGIT_WEIGHT * divergence + _TASK_WEIGHT * F.cross_entropy(logits, labels)


def plain_loop(given: Given, lap: Callable[[], None], *, width: int | None) -> list[float]:
    """Train with Vanilla-KD in a manual loop: the teacher runs in every step."""
    teacher = load(given.teacher, given).eval()
    student = load(given.student, given).train()

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        labels = batch.pop("labels")
        with torch.no_grad():
            teacher_logits = teacher(**batch).logits
        return vanilla_kd_loss(student(**batch).logits, teacher_logits, labels)

    return _loop(given, student, loader(given, lap, width=width), loss_of)


def _loop(
    given: Given,
    student: PreTrainedModel,
    batches: DataLoader[Any],
    loss_of: Callable[[dict[str, Tensor]], Tensor],
) -> list[float]:
    optimizer = optimizer_of(student, given.config)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(given.batches))
    losses = []
    for given_batch in batches:
        batch = {name: tensor.to(given.device) for name, tensor in given_batch.items()}
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), given.config.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def textbrewer_loop(given: Given, lap: Callable[[], None]) -> list[float]:
    """Train with TextBrewer; its loss is ours plus half of the teacher's entropy, a constant."""
    from textbrewer import DistillationConfig, GeneralDistiller
    from textbrewer import TrainingConfig as TextBrewerConfig

    losses = []

    class Distiller(GeneralDistiller):  # type: ignore[misc]
        def write_loss(self, total_loss: Tensor, *others: Any) -> None:
            super().write_loss(total_loss, *others)
            losses.append(total_loss.item())

    def adapted(batch: Any, output: Any) -> dict[str, Tensor]:
        return {"logits": output.logits, "losses": output.loss}

    teacher, student = load(given.teacher, given).eval(), load(given.student, given).train()
    with tempfile.TemporaryDirectory() as folder:
        settings = TextBrewerConfig(
            device=given.device, output_dir=folder, ckpt_steps=len(given.batches)
        )
        distillation = DistillationConfig(
            temperature=1, kd_loss_weight=_LOGIT_WEIGHT, hard_label_weight=_TASK_WEIGHT
        )
        distiller = Distiller(settings, distillation, teacher, student, adapted, adapted)
        with distiller:
            distiller.train(
                optimizer_of(student, given.config),
                loader(given, lap, width=None),
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": 0, "num_training_steps": len(given.batches)},
                max_grad_norm=given.config.max_grad_norm,
                num_steps=len(given.batches),
            )
    return losses


def trainer_loop(given: Given, lap: Callable[[], None]) -> list[float]:
    """Train with the Hugging Face Trainer, a custom loss and its own optimizer (fused AdamW)."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    teacher, student = load(given.teacher, given).eval(), load(given.student, given)
    batches = loader(given, lap, width=None)
    losses: list[Tensor] = []

    class DistillationTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return batches

        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            labels = inputs.pop("labels")
            with torch.no_grad():
                teacher_logits = teacher(**inputs).logits
            output = model(**inputs)
            loss = vanilla_kd_loss(output.logits, teacher_logits, labels)
            losses.append(loss.detach())
            return (loss, output) if return_outputs else loss

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=len(given.batches),
            learning_rate=given.config.learning_rate,
            weight_decay=given.config.weight_decay,
            max_grad_norm=given.config.max_grad_norm,
            warmup_steps=0,
            per_device_train_batch_size=given.config.batch_size,
            use_cpu=given.device.type == "cpu",
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = DistillationTrainer(student, arguments)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return torch.stack(losses).tolist()


def plain_minilmv2_loop(given: Given, lap: Callable[[], None], *, num_heads: int) -> list[float]:
    """Train with MiniLMv2 as in small reimplementations: all outputs, one row after the other."""
    teacher = load(given.teacher, given, "eager").eval()
    student = load(given.student, given, "eager").train()

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        return plain_minilmv2_loss(student, teacher, batch, num_heads)

    return _loop(given, student, loader(given, lap, width=None), loss_of)


def plain_minilmv2_loss(
    student: PreTrainedModel, teacher: PreTrainedModel, batch: dict[str, Tensor], num_heads: int
) -> Tensor:
    with torch.no_grad():
        teacher_vectors = _last_vectors(teacher, batch)
    losses = []
    lengths = batch["attention_mask"].sum(1).tolist()
    for student_of_rows, teacher_of_rows in zip(
        _last_vectors(student, batch), teacher_vectors, strict=True
    ):
        for row, length in enumerate(lengths):
            divergence = F.kl_div(
                F.log_softmax(_scores(student_of_rows[row, :length], num_heads), dim=-1),
                F.softmax(_scores(teacher_of_rows[row, :length], num_heads), dim=-1),
                reduction="sum",
            )
            losses.append(divergence / (num_heads * length))
    return torch.stack(losses).sum() / len(lengths)


def _last_vectors(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return queries, keys and values of a BERT's last layer, from its input."""
    output = model(**batch, output_attentions=True, output_hidden_states=True)
    bert: Any = model.base_model
    attention = bert.encoder.layer[-1].attention.self
    inputs = output.hidden_states[-2]
    return [attention.query(inputs), attention.key(inputs), attention.value(inputs)]


def _scores(vectors: Tensor, num_heads: int) -> Tensor:
    heads = vectors.view(len(vectors), num_heads, -1).transpose(0, 1)
    return heads @ heads.transpose(-1, -2) / heads.size(-1) ** 0.5
