"""SetFit: an encoder fine-tuned on pairs of labeled texts, for few labels.

Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts", https://arxiv.org/abs/2209.11055,
section 3, by the package `setfit` (extra `baselines`): cosine similarity of two texts is to be 1 if
they have one class, else 0. The linear model on the embeddings is that of the other baselines, on
all rows.
"""

import contextlib
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from raykd.errors import InputError
from raykd.evaluation.baselines.strata import stratified_sample
from raykd.models.encoder import quiet_transformers
from raykd.models.threads import one_thread

# R iterations, of which each makes two pairs per row, as in the paper; the rest are the package's
# defaults.
_NUM_ITERATIONS, _BATCH_SIZE, _LEARNING_RATE = 20, 16, 2e-5
_MAX_STEPS = 1000
# Rows that pairs are made of. The package makes an index of all pairs of N rows, with 33 bytes per
# pair: 0.3 GB for 4,000 rows, 75 GB for 67,000. The method is for few labels: 8 and 64
# per class in the paper.
_MAX_ROWS = 4000
SETTINGS = {
    "num_iterations": _NUM_ITERATIONS,
    "batch_size": _BATCH_SIZE,
    "learning_rate": _LEARNING_RATE,
    "max_steps": _MAX_STEPS,
    "max_rows": _MAX_ROWS,
}
_SEED = 1


def check_setfit_installed() -> None:
    """Check that SetFit can be imported.

    Raises:
        InputError: it is not installed.
    """
    try:
        importlib.import_module("setfit")
    except ImportError:
        raise InputError(
            "variants: 'setfit' needs the package setfit, which is not installed; pip install "
            '".[baselines]", or remove the variant'
        ) from None


def make_setfit(
    model: str,
    folder: Path,
    train: pa.Table,
    *,
    max_length: int,
    device: str,
    learning_rate: float = _LEARNING_RATE,
) -> None:
    """Fine-tune an encoder on pairs of rows, and write it to `folder`.

    At most `_MAX_STEPS` steps are made: a thousand rows would need 2,500. Pairs are made of at most
    4,000 rows, a stratified sample of `train` with a fixed seed.

    Args:
        model: folder of a pretrained encoder.
        folder: folder to write.
        train: rows with classes (`schemas.EXAMPLES`), single texts.
        max_length: tokens per text.
        device: of PyTorch.
        learning_rate: of the encoder.
    """
    with _quiet():  # an extra, whose imports print
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        from setfit import SetFitModel, Trainer, TrainingArguments

    train = contrastive_rows(train)
    texts, classes = train["sentence1"].to_pylist(), train["label"].cast(pa.int64()).to_pylist()
    num_steps = min(-(-2 * _NUM_ITERATIONS * len(texts) // _BATCH_SIZE), _MAX_STEPS)
    with tempfile.TemporaryDirectory() as outputs, one_thread(), _quiet():
        words = Transformer(model, max_seq_length=max_length)
        body = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension())])
        arguments = TrainingArguments(
            output_dir=outputs,
            batch_size=_BATCH_SIZE,
            body_learning_rate=learning_rate,
            num_iterations=_NUM_ITERATIONS,
            max_steps=num_steps,
            seed=_SEED,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        # Without the linear model of SetFit.
        trainer = Trainer(model=SetFitModel(model_body=body.to(device)), args=arguments)
        trainer.train_embeddings(texts, classes)
        body.save(str(folder))


def contrastive_rows(train: pa.Table) -> pa.Table:
    """Rows that pairs are made of: all, or a stratified sample of 4,000 with rows of every class.

    Args:
        train: rows with classes (`schemas.EXAMPLES`).
    """
    if train.num_rows <= _MAX_ROWS:
        return train
    order = np.random.default_rng(_SEED).permutation(train.num_rows)
    sample = stratified_sample(train["label"].to_numpy()[order], _MAX_ROWS)
    return train.take(np.sort(order[sample]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that hides bars, logs and advice for developers."""
    output = io.StringIO()
    logger = logging.getLogger("setfit")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            quiet_transformers(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
