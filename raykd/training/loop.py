"""Training loop for all objectives, on one or several workers."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from raykd.models.dropout import CpuDropout
from raykd.models.tokenization.tokens import TokenizedRows, collate, to_device
from raykd.models.tokenization.vocabulary import restrict_to_used_vocabulary
from raykd.objectives.base import STUDENT, Epoch, LossTerms, Objective
from raykd.training.batches import (
    EpochBatches,
    num_batches,
    split_for_workers,
    split_into_micro_batches,
)
from raykd.training.checkpoint import Checkpoint, CheckpointFolder, restore, tensors_of
from raykd.training.evaluator import Evaluator
from raykd.training.events import TrainingEvents
from raykd.training.logging.metrics_writer import Position
from raykd.training.logging.records import Means, Record, StepLog, StepRecord
from raykd.training.settings import TrainingConfig, steps_until, total_epochs, total_steps
from raykd.training.trainers import Trainer, Worker, make_trainers

# Steps between all-reduces of the losses; checkpoints are only written after one.
_STEPS_PER_FLUSH = 10
# Cost of one more micro-batch on a CPU, measured (experiments/LOG.md): accumulating its gradients
# costs this many tokens, its calls as much as one token of a model with this many parameters.
_OVERHEAD_TOKENS, _OVERHEAD_PARAMETERS = 35, 2e7
# On a GPU a batch is only split to bound memory: other savings were not measured.
_NEVER_SPLIT_TOKENS = 1e9
_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def train(
    objective: Objective,
    rows: TokenizedRows,
    config: TrainingConfig,
    *,
    pad_id: int,
    regression: bool,
    seed: int,
    worker: Worker,
    evaluator: Evaluator | None = None,
    checkpoints: CheckpointFolder | None = None,
    events: TrainingEvents | None = None,
    stop_after: int | None = None,
) -> int:
    """Train the objective's student in place; returns the number of steps.

    Each worker trains on its share of every batch. The loss of a share is weighted by its number
    of rows, so that the averaged gradient is that of the whole batch for any number of workers.

    Args:
        objective: objective with its models.
        rows: training rows.
        config: training settings.
        pad_id: the tokenizer's padding token.
        regression: whether labels are scores.
        seed: seed of all random numbers.
        worker: this process.
        evaluator: evaluation of the student, on the first worker only.
        checkpoints: checkpoint folder, read at the start on every worker, written by the first.
        events: handler of the training's events, on the first worker only.
        stop_after: epochs after which the training ends, though its learning rate follows the
            schedule of all epochs; None to train for all of them.

    Raises:
        FloatingPointError: the loss is not finite; names the step and the rows of the batch.
        InputError: none of the steps trains the student.
    """
    training = _Training(objective, rows, config, pad_id, regression, seed, worker)
    evaluator = evaluator or Evaluator(objective.student, config, len(rows))
    events = events or TrainingEvents()
    start, position = _resume(training, evaluator, checkpoints)
    events.on_start(start, position)
    log, num_steps = training.log, steps_until(config, len(rows), stop_after)
    for step in range(start + 1, num_steps + 1):
        training.run_step(step)
        events.on_step(step)
        is_due = evaluator.is_due(step)
        if not is_due and len(log) < _STEPS_PER_FLUSH:
            continue
        records = log.flush()
        _check_finite(records, training, checkpoints)
        events.on_step_records(records)
        for step_record in records:
            training.means.add(step_record)
        is_last = step == num_steps
        if is_due:
            scores = training.evaluate(evaluator, step)
            is_last = is_last or training.broadcast(evaluator.should_stop)
            epoch = step / training.steps_per_epoch
            rate = records[-1].learning_rate
            record = Record(epoch, step, rate, **training.means.take(), scores=scores)
            events.on_record(record, is_last)
        if is_last:
            break
        if worker.rank > 0 or checkpoints is None:
            continue
        if events.has_notice() or checkpoints.is_due:
            position = events.on_checkpoint()
            checkpoints.write(training.checkpoint(step, evaluator).with_position(position))
    training.end()
    evaluator.restore_best()
    if checkpoints is not None:
        checkpoints.wait()
    return step


class _Training:
    """State of a training between two steps: objective, rows and trainers."""

    def __init__(
        self,
        objective: Objective,
        rows: TokenizedRows,
        config: TrainingConfig,
        pad_id: int,
        regression: bool,
        seed: int,
        worker: Worker,
    ) -> None:
        self.objective, self.rows, self.config, self.worker = objective, rows, config, worker
        self._pad_id, self._regression, self._seed = pad_id, regression, seed
        self._lengths = rows.lengths
        self.steps_per_epoch = num_batches(len(rows), config.batch_size)
        self.log, self.means = StepLog(worker), Means()
        self._overhead_tokens = _overhead_tokens(objective, worker)
        # A generator can produce any token, and masking replaces words by the mask or any token.
        writes_tokens = objective.generator is not None or objective.config.masks_words
        self._vocabulary = (
            None
            if writes_tokens
            else restrict_to_used_vocabulary(objective.student, rows.input_ids, pad_id)
        )
        _seed_step(seed, 0, worker)
        objective.to(worker.device).train()
        labels = None if rows.labels is None else torch.tensor(rows.labels, device=worker.device)
        objective.start_training(len(rows), labels, seed)
        self._row_weights: NDArray[np.float32] | None = None
        if rows.labels is not None and objective.gold.class_weights is not None:
            by_class = objective.gold.class_weights.numpy()
            self._row_weights = by_class[rows.labels.astype(np.int64)]
        self._players = objective.players()
        num_steps = total_steps(config, len(rows))
        self._trainers = make_trainers(objective, self._players, config, num_steps, worker)
        self._epoch = 0
        self._batches: EpochBatches | None = None

    def run_step(self, step: int) -> None:
        """Run one optimizer step on this worker's share of the batch."""
        indices = self.batch(step)
        _seed_step(self._seed, step, self.worker)
        share = self._share(indices)
        weight = len(share) * self.worker.size / len(indices)
        if len(share) == 0:  # a last batch with fewer rows than workers: participate with weight 0
            share = indices[:1]
        player = self.objective.player_of(step)
        self.objective.take_turn(player, self._players)
        trainer = self._trainers[player]
        learning_rate = trainer.learning_rate
        *others, last = self._micro_batches(share)
        run = partial(self._run_micro_batch, trainer, indices, len(share), weight)
        with trainer.no_sync():
            terms = [run(part) for part in others]
        terms.append(run(last))
        norm = trainer.end_turn()
        self.log.add(step, self._epoch, player, learning_rate, terms, norm, weight)

    def _share(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """This worker's rows of a batch, with about as many tokens as the other workers'."""
        worker_rank, size = self.worker.rank, self.worker.size
        if size == 1:
            return indices
        if self.objective.mixes_examples or self.worker.device.type != "cpu":
            # Rows that are compared with each other have to be a sample of the batch. A GPU runs
            # its rows as one micro-batch, in which padding of many short rows would need memory.
            by_length = np.argsort(self._lengths[indices], kind="stable")
            return indices[by_length[worker_rank::size]]
        return indices[split_for_workers(self._lengths[indices], size)[worker_rank]]

    def batch(self, step: int) -> NDArray[np.int64]:
        """Rows of a step's batch; starts the objective's epoch if it is a new one."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._epoch != epoch + 1:
            self._epoch = epoch + 1
            total = total_epochs(self.config, len(self.rows))
            self.objective.start_epoch(Epoch(self._seed, self._epoch, total))
            self._batches = EpochBatches(
                self._lengths,
                self.config.batch_size,
                bucket_batches=self.config.bucket_batches,
                seed=self._seed,
                epoch=self._epoch,
            )
        assert self._batches is not None
        return self._batches[position]

    def evaluate(self, evaluator: Evaluator, step: int) -> dict[str, float]:
        """Scores of the student with its full vocabulary."""
        if self._vocabulary is None or self.worker.rank > 0:
            return evaluator.evaluate(step)
        with self._vocabulary.whole(self._trainers[STUDENT].decay):
            return evaluator.evaluate(step)

    def end(self) -> None:
        """Restore the student's full vocabulary."""
        if self._vocabulary is not None:
            self._vocabulary.put_back(self._trainers[STUDENT].decay)

    def broadcast(self, should_stop: bool) -> bool:
        """Decision of the first worker, on every worker."""
        if self.worker.size == 1 or self.config.patience is None:
            return should_stop
        return bool(_from_first(int(should_stop), self.worker))

    def checkpoint(self, step: int, evaluator: Evaluator) -> Checkpoint:
        """State after a step whose log is flushed."""
        state = {
            "turns": {name: trainer.turn for name, trainer in self._trainers.items()},
            "decays": {name: trainer.decay for name, trainer in self._trainers.items()},
            "scalers": {name: t.scaler.state_dict() for name, t in self._trainers.items()},
            "means": self.means.state(),
            "examiner": evaluator.state(),
            "num_threads": torch.get_num_threads(),
        }
        tensors = tensors_of(self.objective, self._trainers)
        return Checkpoint(step, tensors | evaluator.tensors(), state)

    def restore(self, checkpoint: Checkpoint, evaluator: Evaluator) -> None:
        """Resume from a checkpoint, with its number of threads, which affects rounding."""
        torch.set_num_threads(checkpoint.state["num_threads"])
        restore(self.objective, self._trainers, checkpoint.tensors)
        for name, trainer in self._trainers.items():
            trainer.turn = checkpoint.state["turns"][name]
            trainer.decay = checkpoint.state["decays"][name]
            trainer.scaler.load_state_dict(checkpoint.state["scalers"][name])
        self.means.restore(checkpoint.state["means"])
        evaluator.restore(checkpoint.state["examiner"], checkpoint.tensors)

    def _micro_batches(self, share: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.objective.mixes_examples:
            return [share]
        max_tokens = self.config.max_tokens_per_micro_batch
        parts = split_into_micro_batches(self._lengths[share], self._overhead_tokens, max_tokens)
        return [share[part] for part in parts]

    def _run_micro_batch(
        self,
        trainer: Trainer,
        indices: NDArray[np.int64],
        share_rows: int,
        weight: float,
        part: NDArray[np.int64],
    ) -> tuple[LossTerms, float]:
        batch = collate(self.rows, part, pad_id=self._pad_id, regression=self._regression)
        if self._row_weights is not None:
            # Of the whole batch, of all workers, so that the loss is independent of the parts.
            scale = len(indices) / float(self._row_weights[indices].sum())
            batch["class_weight_scale"] = torch.full((len(part),), scale)
        device = self.worker.device
        dtype = _AUTOCAST.get(self.config.precision)
        dropout = CpuDropout() if device.type == "cpu" else nullcontext()
        with torch.autocast(device.type, dtype, enabled=dtype is not None), dropout:
            terms: LossTerms = trainer.model(to_device(batch, device))
        share = len(part) / share_rows
        trainer.backward(terms.total * (weight * share))
        return terms, share


def _resume(
    training: _Training, evaluator: Evaluator, checkpoints: CheckpointFolder | None
) -> tuple[int, Position]:
    """Step and metrics position of the newest checkpoint; 0 and empty if there is none."""
    if checkpoints is None:
        return 0, {}
    step = 0
    if training.worker.rank == 0:
        step = checkpoints.find()[0] or 0
        checkpoints.drop_after(step)
    step = _from_first(step, training.worker)
    if step:
        # Start the checkpoint's epoch: its random draws depend only on its number.
        training.batch(step)
        checkpoint = checkpoints.read(step)
        training.restore(checkpoint, evaluator)
        return step, checkpoint.position
    return 0, {}


def _from_first(number: int, worker: Worker) -> int:
    """Broadcast a number from the first worker."""
    if worker.size == 1:
        return number
    tensor = torch.tensor(number, device=worker.device)
    distributed.broadcast(tensor, 0)
    return int(tensor)


def _check_finite(
    records: Sequence[StepRecord], training: _Training, checkpoints: CheckpointFolder | None
) -> None:
    for record in records:
        if np.isfinite([record.gradient_norm, record.total]).all():
            continue
        rows = sorted(training.batch(record.step).tolist())
        last_good = ""
        if checkpoints is not None:
            # Every worker raises here, and any of their errors is shown: wait until the first
            # worker's checkpoint is written.
            checkpoints.wait()
            _from_first(0, training.worker)
            # A checkpoint is known to be good if the step after it was finite.
            last_good = f"; the last good checkpoint: {checkpoints.newest(before=record.step - 1)}"
        raise FloatingPointError(
            f"step {record.step} (epoch {record.epoch}): loss {record.total} or its gradient is "
            f"not finite; rows {rows}; lower learning_rate{last_good}"
        )


def _overhead_tokens(objective: Objective, worker: Worker) -> float:
    """Fixed cost of a micro-batch, in tokens of the student."""
    if worker.device.type != "cpu":
        return _NEVER_SPLIT_TOKENS
    student = objective.student
    tables = [module for module in student.modules() if isinstance(module, nn.Embedding)]
    num_parameters = sum(p.numel() for p in student.parameters())
    num_parameters -= sum(p.numel() for table in tables for p in table.parameters())
    return _OVERHEAD_TOKENS + _OVERHEAD_PARAMETERS / max(1, num_parameters)


def _seed_step(seed: int, step: int, worker: Worker) -> None:
    """Seed the random numbers of a step, independent of earlier steps."""
    digest = blake2b(f"{seed} {step} {worker.rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little", signed=True))
