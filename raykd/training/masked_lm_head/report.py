"""Report of a trained masked-LM head on held-out rows, and its acceptance thresholds."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.errors import InputError
from raykd.objectives.shared.generator_model import TrainHeadConfig

REPORT_FILE = "head.json"


class MaskedExample(BaseModel):
    """Held-out text with one masked word, the word, and the head's most probable tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    word: str
    predictions: list[str]


class HeadReport(BaseModel):
    """Scores of a masked-LM head on masked words of held-out rows.

    Attributes:
        num_rows: training rows.
        num_held_out_rows: held-out rows.
        num_masked: masked words of the held-out rows.
        num_parameters: trained parameters of the head.
        perplexity: exp of the mean negative log-likelihood of the masked words.
        accuracy: share of masked words that were the most probable prediction.
        untrained_perplexity: perplexity of the head before training.
        untrained_accuracy: accuracy of the head before training.
        unigram_perplexity: perplexity of the token frequencies in the training rows, with add-one
            smoothing.
        unigram_accuracy: accuracy of always predicting the most frequent token.
        most_frequent: the most frequent token.
        examples: sample predictions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    text: str
    num_steps: int
    num_rows: int
    num_held_out_rows: int
    num_masked: int
    num_parameters: int
    perplexity: FiniteFloat
    accuracy: FiniteFloat
    untrained_perplexity: FiniteFloat
    untrained_accuracy: FiniteFloat
    unigram_perplexity: FiniteFloat
    unigram_accuracy: FiniteFloat
    most_frequent: str
    examples: list[MaskedExample]


def read_report(folder: Path) -> HeadReport:
    """Read the report in the folder of a trained head."""
    return HeadReport.model_validate_json((folder / REPORT_FILE).read_bytes())


def check_report(report: HeadReport, config: TrainHeadConfig, key_of: Callable[[str], str]) -> None:
    """Refuse a head that learned too little to generate text.

    Args:
        report: report of the head.
        config: thresholds.
        key_of: function from a setting to the key or option that the user sets.

    Raises:
        InputError: names the figures, the thresholds and what to change.
    """
    ratio = report.perplexity / report.unigram_perplexity
    gain = report.accuracy - report.unigram_accuracy
    if ratio <= config.max_perplexity_ratio and gain >= config.min_accuracy_gain:
        return
    raise InputError(
        f"the masked-LM head trained for {report.model} learned too little: on "
        f"{report.num_masked:,} masked words of held-out rows its perplexity is "
        f"{report.perplexity:,.1f}, {ratio:.2f} times the unigram baseline's "
        f"{report.unigram_perplexity:,.1f} ({key_of('max_perplexity_ratio')}: at most "
        f"{config.max_perplexity_ratio:g}), and its accuracy {report.accuracy:.1%} against "
        f"{report.unigram_accuracy:.1%} for always answering {report.most_frequent!r} "
        f"({key_of('min_accuracy_gain')}: at least {config.min_accuracy_gain:g}); train longer "
        f"({key_of('num_steps')}, now {report.num_steps}), on more text, with another "
        f"{key_of('learning_rate')}, or name a masked language model as the generator"
    )


def summary(report: HeadReport) -> str:
    """One-line summary for the console."""
    return (
        f"masked-LM head of {report.model}: held-out perplexity {report.perplexity:,.1f} (unigram "
        f"{report.unigram_perplexity:,.1f}, untrained {report.untrained_perplexity:,.0f}), "
        f"accuracy {report.accuracy:.1%} (most frequent token {report.unigram_accuracy:.1%}) on "
        f"{report.num_masked:,} masked words"
    )
