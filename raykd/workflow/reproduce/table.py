"""Settings of a table: its rows and columns, the runs behind them, and the values to expect."""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from raykd.config import Config
from raykd.errors import InputError
from raykd.evaluation.baselines import BASELINES
from raykd.storage.yaml_files import load_yaml

Profile = Literal["small", "full"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
Name = Annotated[str, Field(pattern=_NAME)]
# Rows that are no students.
REFERENCES = ("teacher", "majority", *BASELINES)
# A recipe's keys that a table sets itself.
_OWN_KEYS = ("name", "seeds", "variants")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PaperConfig(Config):
    """Source of a table's values."""

    title: str = Field(description="Title of the paper.")
    url: str = Field(description="Address of the paper.")
    part: str = Field(description="Table or figure, such as 'Table 4'.")
    note: str | None = Field(None, description="What to know about the paper's values.")


class ColumnConfig(Config):
    """A column: a task, or an evaluation set of another column's task, and its metric."""

    title: str = Field(description="Title of the column.")
    metric: str | None = Field(
        None, description="Metric of the column's scores. Default: the main metric of its task."
    )
    of: Name | None = Field(
        None, description="Column whose runs have the evaluation set `set`, for scores on this set."
    )
    set: str | None = Field(None, description="Name in `evaluation.sets` of these runs.")

    @model_validator(mode="after")
    def _set_of_a_column(self) -> Self:
        if (self.of is None) != (self.set is None):
            raise ValueError("give both of and set: a column, and an evaluation set of its runs")
        return self


class RowConfig(Config):
    """A row: which score of which run it shows."""

    title: str = Field(description="Title of the row, the method.")
    run: Name = Field(description="One of `runs`.")
    variant: str = Field(
        description="Student of the run, as in a recipe's `variants`, or teacher, majority."
    )
    init: str | None = Field(
        None, description="First weights of the student, if the run has several `student.inits`."
    )
    stage: Literal["injected", "adapted"] = Field(
        "adapted", description="Whether to score the student before or after adaptation."
    )
    compared_with: Annotated[tuple[Name, ...], BeforeValidator(_as_list)] = Field(
        (),
        description="Row, or list of rows, whose scores are subtracted: the table shows each "
        "difference, with its interval over evaluation rows and seeds.",
    )

    @property
    def is_student(self) -> bool:
        """True if the row is a student, and not a teacher or a baseline."""
        return self.variant not in REFERENCES


class ProfileConfig(Config):
    """A size of the table: the recipe that all its runs have in common, and the tasks."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        (1, 2, 3), min_length=1, description="Seeds of every student."
    )
    recipe: dict[str, Any] = Field(
        description="Recipe of all runs, without the keys name, seeds and variants. Paths are "
        "relative to the table's file."
    )
    columns: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="Keys of the recipe that a column sets, such as its task."
    )
    runs: dict[Name, dict[str, Any]] = Field(
        {}, description="Keys of the recipe that a run sets in this profile only."
    )


class ExpectedConfig(Config):
    """Scores that were measured before, in percent, and how far a new one may be from them."""

    date: date
    commit: str
    device: str
    num_seeds: int = Field(ge=1)
    tolerance: float = Field(gt=0, description="Largest accepted difference, in points.")
    values: dict[Name, dict[Name, float]] = Field(description="Mean over seeds, by row and column.")


class TableConfig(Config):
    """A table of a paper, or one of our own."""

    name: Name = Field(description="Name of the table; its folder is runs/reproduce/NAME.")
    title: str = Field(description="What the table compares.")
    paper: PaperConfig | None = Field(None, description="The paper, if the table is of one.")
    columns: dict[Name, ColumnConfig] = Field(min_length=1)
    runs: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="Keys of the recipe that a run sets, such as its objective."
    )
    rows: dict[Name, RowConfig] = Field(min_length=1)
    profiles: dict[Profile, ProfileConfig] = Field(min_length=1)
    paper_values: dict[Name, dict[Name, float]] = Field(
        {}, description="The paper's values in percent, by row and column."
    )
    expected: dict[Profile, ExpectedConfig] = Field(
        {}, description="Our values, by profile, with date, commit and device."
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        self._check_rows()
        for name, column in self.columns.items():
            if column.of is not None:
                tasks = [one for one in self.columns if self.columns[one].of is None]
                _check_names([column.of], tasks, f"columns.{name}.of")
        for profile, config in self.profiles.items():
            key = f"profiles.{profile}"
            if sets := [one for one in config.columns if self.task_column(one) != one]:
                raise ValueError(
                    f"{key}.columns: {', '.join(sets)} is an evaluation set of another column, "
                    "which has its keys"
                )
            _check_names(config.columns, self.columns, f"{key}.columns")
            _check_names(config.runs, self.runs, f"{key}.runs")
            for place, values in _trees(config):
                if own := [own for own in _OWN_KEYS if own in values]:
                    raise ValueError(f"{key}.{place}: the table itself sets {', '.join(own)}")
        self._check_values("paper_values", self.paper_values)
        for profile, expected in self.expected.items():
            self._check_values(f"expected.{profile}.values", expected.values)
        return self

    def task_column(self, column: str) -> str:
        """The column whose runs a column shows: itself, or the one of its evaluation set."""
        config = self.columns.get(column)
        return column if config is None or config.of is None else config.of

    def columns_of(self, profile: Profile) -> list[str]:
        """Columns of a profile in the order of the table, also those of evaluation sets."""
        own = self.profiles[profile].columns
        return [column for column in self.columns if self.task_column(column) in own]

    def _check_rows(self) -> None:
        inits = {row.run: name for name, row in self.rows.items() if row.init is not None}
        for name, row in self.rows.items():
            _check_names([row.run], self.runs, f"rows.{name}.run")
            if not row.is_student and (row.init is not None or row.stage == "injected"):
                raise ValueError(f"rows.{name}: {row.variant} has no init and no stage")
            if row.is_student and row.init is None and row.run in inits:
                # The run's students have the inits of its rows, in place of its recipe's.
                raise ValueError(
                    f"rows.{name}: needs an init, as row {inits[row.run]!r} of the same run "
                    f"{row.run!r} has one"
                )
            others = [other for other in self.rows if other != name]
            _check_names(row.compared_with, others, f"rows.{name}.compared_with")

    def _check_values(self, key: str, values: Mapping[str, Mapping[str, float]]) -> None:
        _check_names(values, self.rows, key)
        for row, scores in values.items():
            _check_names(scores, self.columns, f"{key}.{row}")


def _trees(config: ProfileConfig) -> list[tuple[str, dict[str, Any]]]:
    columns = ((f"columns.{name}", values) for name, values in config.columns.items())
    runs = ((f"runs.{name}", values) for name, values in config.runs.items())
    return [("recipe", config.recipe), *columns, *runs]


def _check_names(names: Iterable[str], known: Iterable[str], key: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: there is no {name!r}; known: {', '.join(known)}")


def load_table(path: Path) -> TableConfig:
    """Read and validate a table.

    Raises:
        InputError: names the file and the path of each wrong key.
    """
    return TableConfig.parse(load_yaml(path), str(path))


def find_table(name: str, folder: Path) -> Path:
    """The file of a table: `name` itself, or `name.yaml` in a folder.

    Args:
        name: given by the user.
        folder: with the tables of the project.

    Raises:
        InputError: there is none; names those in the folder.
    """
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(tables_in(folder)) or f"none; run from a checkout of raykd, with {folder}"
    raise InputError(f"table {name!r:.80}: there is no such file or table; tables here: {known}")


def tables_in(folder: Path) -> list[str]:
    """Names of the tables in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))
