"""Settings of a teacher that is a file of scores."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from raykd.config import Config


def _with_short_forms(schema: dict[str, Any]) -> None:
    whole, paths = dict(schema), schema["properties"]["paths"]
    schema.clear()
    schema["anyOf"] = [
        {"type": "string"},
        {key: value for key, value in paths.items() if key != "description"},
        whole,
    ]


class ScoresConfig(Config):
    """Files with a teacher's scores of the training rows.

    `scores: FILE` and `scores: [FILES]` are short for `scores: {paths: [FILES]}`.
    """

    model_config = ConfigDict(json_schema_extra=_with_short_forms)

    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Files or URLs (Parquet, JSON lines, CSV, TSV) that together have a row of "
        "scores for every training row, or directories that `raykd predict` wrote.",
    )
    kind: Literal["probabilities", "logits"] = Field(
        "probabilities",
        description="What the scores of the classes are: probabilities, or logits (also logarithms "
        "of probabilities). The scores of a regression task are neither.",
    )
    column: str | None = Field(
        None,
        description="Column with all scores of a row: a mapping of classes to numbers, a list in "
        "the order of `teacher.labels`, or one of these as JSON text; for regression, one number. "
        "Default: one column per class, with its name, else the column `probabilities` (or "
        "`logits`, by `kind`); for regression `prediction`.",
    )
    text_columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Columns with the text of a row, by which rows are matched, character by "
        "character. Default: the task's sentence columns.",
    )
    id_column: str | None = Field(
        None,
        description="Column with the id of a row, by which rows are matched instead of by text; "
        "the task's training files have a column of this name, too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"paths": [value]}
        if isinstance(value, list | tuple):
            return {"paths": value}
        if not isinstance(value, dict | cls):
            raise ValueError(
                f"expected a file of scores, a list of files, or a section, not {value!r:.60}"
            )
        return value

    @model_validator(mode="after")
    def _one_match(self) -> Self:
        if self.text_columns is not None and self.id_column is not None:
            raise ValueError(
                "text_columns and id_column: rows are matched by one of them; remove the other"
            )
        return self


class MemberConfig(Config):
    """One teacher of an ensemble."""

    scores: ScoresConfig = Field(
        description="Its scores of the training rows: a file, a list of files, or a section."
    )
    weight: float = Field(1.0, gt=0, description="Its weight in the mean.")
