"""The training loop: any objective, one or many workers."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
from raykd.training.logging.metrics_writer import Position
from raykd.training.logging.records import Means, Record, StepLog, StepRecord
from raykd.training.settings import TrainingConfig, total_epochs, total_steps
from raykd.training.trainers import Trainer, Worker, make_trainers

# Steps between two exchanges of losses among the workers; checkpoints are written after one.
_STEPS_PER_FLUSH = 10
# What another pass costs on a CPU, measured (experiments/LOG.md): adding up its gradients takes as
# long as so many tokens, its calls as long as one token of so many parameters.
_OVERHEAD_TOKENS, _OVERHEAD_PARAMETERS = 35, 2e7
# On a GPU a batch is cut for its memory alone: nobody has measured what else it would spare.
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
    has_notice: Callable[[], bool] = lambda: False,
    on_start: Callable[[int, Position], None] = lambda step, metrics_writer: None,
    on_step: Callable[[int], None] = lambda step: None,
    on_steps: Callable[[Sequence[StepRecord]], None] = lambda records: None,
    on_record: Callable[[Record, bool], None] = lambda record, is_last: None,
    on_checkpoint: Callable[[], Position] = dict,
) -> int:
    """Train the objective's student in place; returns the steps done.

    Every worker sees its share of each batch; a share's loss is weighted by its number of rows,
    so that the averaged gradient is that of the whole batch whatever the number of workers.

    Args:
        objective: what is trained.
        rows: what on.
        config: how.
        pad_id: the tokenizer's.
        regression: whether labels are scores.
        seed: of everything random.
        worker: this process.
        evaluator: scores the student; on the first worker alone.
        checkpoints: read at the start, on every worker; written by the first.
        has_notice: asked on the first worker, now and then: whether it was told, since it was last
            asked, that a worker will be taken away. A checkpoint is then written at once.
        on_start: called with the step that training resumes after, 0 for the beginning, and what
            `on_checkpoint` returned then.
        on_step: called after each step with its number.
        on_steps: called with all steps' losses, some at a time.
        on_record: called with each record, and whether it is the last.
        on_checkpoint: called before a checkpoint; returns the position of a metrics_writer, which
            becomes part of it.

    Raises:
        FloatingPointError: the loss is not finite; names the step and the rows of the batch.
        InputError: there are too few steps for the student to have a turn.
    """
    training = _Training(objective, rows, config, pad_id, regression, seed, worker)
    evaluator = evaluator or Evaluator(objective.student, config, len(rows))
    start, position = _resume(training, evaluator, checkpoints)
    on_start(start, position)
    log, num_steps = training.log, total_steps(config, len(rows))
    for step in range(start + 1, num_steps + 1):
        training.run_step(step)
        on_step(step)
        is_due = evaluator.is_due(step)
        if not is_due and len(log) < _STEPS_PER_FLUSH:
            continue
        records = log.flush()
        _check_finite(records, training, checkpoints)
        on_steps(records)
        for of_step in records:
            training.means.add(of_step)
        is_last = step == num_steps
        if is_due:
            scores = training.evaluate(evaluator, step)
            is_last = is_last or training.agreed(evaluator.should_stop)
            epoch = step / training.steps_per_epoch
            rate = records[-1].learning_rate
            record = Record(epoch, step, rate, **training.means.take(), scores=scores)
            on_record(record, is_last)
        if is_last:
            break
        if worker.rank > 0 or checkpoints is None:
            continue
        if has_notice() or checkpoints.is_due:
            position = on_checkpoint()
            checkpoints.write(training.checkpoint(step, evaluator).after(position))
    training.end()
    evaluator.restore_best()
    if checkpoints is not None:
        checkpoints.wait()
    return step


class _Training:
    """An objective, its rows and its trainers between two steps."""

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
        # A generator writes any token; masked words become the mask token or any other.
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
        self._players = objective.players()
        num_steps = total_steps(config, len(rows))
        self._trainers = make_trainers(objective, self._players, config, num_steps, worker)
        self._epoch = 0
        self._batches: EpochBatches | None = None

    def run_step(self, step: int) -> None:
        """One turn of whose turn it is, on this worker's share of the step's batch."""
        indices = self.batch(step)
        _seed_step(self._seed, step, self.worker)
        share = self._share(indices)
        weight = len(share) * self.worker.size / len(indices)
        if len(share) == 0:  # a last batch with fewer rows than workers: take part, weightless
            share = indices[:1]
        player = self.objective.player_of(step)
        self.objective.take_turn(player, self._players)
        trainer = self._trainers[player]
        learning_rate = trainer.learning_rate
        *others, last = self._passes(share)
        terms: list[tuple[LossTerms, float]] = []
        with trainer.no_sync():
            terms += [self._run_micro_batch(trainer, part, len(share), weight) for part in others]
        terms.append(self._run_micro_batch(trainer, last, len(share), weight))
        norm = trainer.end_turn()
        self.log.add(step, self._epoch, player, learning_rate, terms, norm, weight)

    def _share(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """This worker's rows of a batch; no worker shall wait for another's longer rows."""
        rank, size = self.worker.rank, self.worker.size
        if size == 1:
            return indices
        if self.objective.mixes_examples or self.worker.device.type != "cpu":
            # Rows that are compared with each other are a sample of the batch; and a GPU takes its
            # rows in one pass, where many short ones beside a long one would need much memory.
            by_length = np.argsort(self._lengths[indices], kind="stable")
            return indices[by_length[rank::size]]
        return indices[split_for_workers(self._lengths[indices], size)[rank]]

    def batch(self, step: int) -> NDArray[np.int64]:
        """Rows of a step's batch; the first of an epoch opens it for the objective."""
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
        """The evaluator's scores of the whole student."""
        if self._vocabulary is None or self.worker.rank > 0:
            return evaluator.evaluate(step)
        with self._vocabulary.whole(self._trainers[STUDENT].decay):
            return evaluator.evaluate(step)

    def end(self) -> None:
        """Make the student whole."""
        if self._vocabulary is not None:
            self._vocabulary.put_back(self._trainers[STUDENT].decay)

    def agreed(self, wish: bool) -> bool:
        """What the first worker wishes."""
        if self.worker.size == 1 or self.config.patience is None:
            return wish
        return bool(_from_first(int(wish), self.worker))

    def checkpoint(self, step: int, evaluator: Evaluator) -> Checkpoint:
        """The state after a step; all that was logged is told."""
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
        """Resume from a state, with the threads it was computed with: they change its rounding."""
        torch.set_num_threads(checkpoint.state["num_threads"])
        restore(self.objective, self._trainers, checkpoint.tensors)
        for name, trainer in self._trainers.items():
            trainer.turn = checkpoint.state["turns"][name]
            trainer.decay = checkpoint.state["decays"][name]
            trainer.scaler.load_state_dict(checkpoint.state["scalers"][name])
        self.means.restore(checkpoint.state["means"])
        evaluator.restore(checkpoint.state["examiner"], checkpoint.tensors)

    def _passes(self, share: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.objective.mixes_examples:
            return [share]
        most = self.config.max_tokens_per_pass
        cut = split_into_micro_batches(self._lengths[share], self._overhead_tokens, most)
        return [share[part] for part in cut]

    def _run_micro_batch(
        self, trainer: Trainer, part: NDArray[np.int64], share_rows: int, weight: float
    ) -> tuple[LossTerms, float]:
        batch = collate(self.rows, part, pad_id=self._pad_id, regression=self._regression)
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
        # The epoch is opened as it was: what it draws, it draws from its number.
        training.batch(step)
        checkpoint = checkpoints.read(step)
        training.restore(checkpoint, evaluator)
        return step, checkpoint.metrics_writer
    return 0, {}


def _from_first(number: int, worker: Worker) -> int:
    """The first worker's number, on every worker."""
    if worker.size == 1:
        return number
    told = torch.tensor(number, device=worker.device)
    distributed.broadcast(told, 0)
    return int(told)


def _check_finite(
    records: Sequence[StepRecord], training: _Training, checkpoints: CheckpointFolder | None
) -> None:
    for record in records:
        if np.isfinite([record.gradient_norm, record.total]).all():
            continue
        rows = sorted(training.batch(record.step).tolist())
        last = ""
        if checkpoints is not None:
            # All workers end here, and the user reads the words of any: the first one's checkpoint
            # is to be there when the others look.
            checkpoints.wait()
            _from_first(0, training.worker)
            # One is known to be good when the step after it is.
            last = f"; the last good checkpoint: {checkpoints.newest(before=record.step - 1)}"
        raise FloatingPointError(
            f"step {record.step} (epoch {record.epoch}): loss {record.total} or its gradient is "
            f"not finite; rows {rows}; lower learning_rate{last}"
        )


def _overhead_tokens(objective: Objective, worker: Worker) -> float:
    """What another pass costs, in tokens of the student."""
    if worker.device.type != "cpu":
        return _NEVER_SPLIT_TOKENS
    student = objective.student
    tables = [module for module in student.modules() if isinstance(module, nn.Embedding)]
    num_parameters = sum(p.numel() for p in student.parameters())
    num_parameters -= sum(p.numel() for table in tables for p in table.parameters())
    return _OVERHEAD_TOKENS + _OVERHEAD_PARAMETERS / max(1, num_parameters)


def _seed_step(seed: int, step: int, worker: Worker) -> None:
    """Make a step's random numbers depend on nothing that was before it."""
    digest = blake2b(f"{seed} {step} {worker.rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little", signed=True))
