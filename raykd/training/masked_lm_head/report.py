"""What a trained masked-LM head can do, measured on held-out rows, and what is too little."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.errors import InputError
from raykd.objectives.shared.generator_model import TrainHeadConfig

REPORT_FILE = "head.json"


class MaskedExample(BaseModel):
    """A held-out text with one masked word, the word, and the head's likeliest tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    word: str
    predictions: list[str]


class HeadReport(BaseModel):
    """A masked-LM head measured on masked words of held-out rows.

    Attributes:
        num_rows: rows trained on.
        num_held_out_rows: rows measured on.
        num_masked: masked words measured on.
        num_parameters: trained parameters of the head.
        perplexity: exp of the mean negative log-likelihood of the masked words.
        accuracy: share of masked words that were the likeliest prediction.
        untrained_perplexity: perplexity of the random head that training started from.
        untrained_accuracy: its accuracy.
        unigram_perplexity: perplexity of the tokens' frequencies in the rows trained on, add-one
            smoothed.
        unigram_accuracy: accuracy of always answering the most frequent token.
        most_frequent: that token.
        examples: a few predictions.
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
    """The report in the folder of a trained head."""
    return HeadReport.model_validate_json((folder / REPORT_FILE).read_bytes())


def check_report(report: HeadReport, config: TrainHeadConfig, key_of: Callable[[str], str]) -> None:
    """Refuse a head that learned too little to generate text.

    Args:
        report: of the head.
        config: its thresholds.
        key_of: what the user calls a setting.

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
    """One line for the console."""
    return (
        f"masked-LM head of {report.model}: held-out perplexity {report.perplexity:,.1f} (unigram "
        f"{report.unigram_perplexity:,.1f}, untrained {report.untrained_perplexity:,.0f}), "
        f"accuracy {report.accuracy:.1%} (most frequent token {report.unigram_accuracy:.1%}) on "
        f"{report.num_masked:,} masked words"
    )
