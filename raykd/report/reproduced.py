"""A reproduced table: our scores next to the paper's, as data, as Markdown and as a page."""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.report.rendering import environment
from raykd.report.scores import METRIC_TITLES

# `new`: there is no value to compare with; `other seeds`: the value is a mean over more or fewer
# seeds; `not asked`: not of the rows and columns to make.
State = Literal["OK", "near", "off", "new", "other seeds", "failed", "not run", "not asked"]

_NOTHING = "-"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Facts):
    """Difference to another row in points, and the bounds of its 95 % interval."""

    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat

    @property
    def is_seen(self) -> bool:
        """True if the interval excludes 0."""
        return not self.low <= 0 <= self.high


class Cell(_Facts):
    """One score of a table, in percent.

    Attributes:
        column: name of the column.
        mean: over seeds; None if there is no score.
        deviation: sample standard deviation over seeds.
        num_seeds: number of seeds.
        paper: the paper's value.
        expected: value of an earlier run.
        state: how the mean compares with the earlier value.
        training_s: mean wall time of the trainings of one student.
        reason: why it failed.
        differences: to the rows that this one is compared with, by their names.
    """

    column: str
    mean: FiniteFloat | None = None
    deviation: FiniteFloat | None = None
    num_seeds: int = 0
    paper: FiniteFloat | None = None
    expected: FiniteFloat | None = None
    state: State = "not run"
    training_s: FiniteFloat | None = None
    reason: str | None = None
    differences: dict[str, Difference] = {}


class TableRow(_Facts):
    """A method and its cells; `compared_with` has the names of other rows."""

    name: str
    title: str
    compared_with: list[str] = []
    cells: list[Cell]

    @property
    def average(self) -> float | None:
        """Mean of our scores; None unless every column has one."""
        return _average([cell.mean for cell in self.cells])

    @property
    def paper_average(self) -> float | None:
        """Mean of the paper's values in these columns; None unless every column has one."""
        return _average([cell.paper for cell in self.cells])

    @property
    def training_s(self) -> float | None:
        """Mean wall time of the trainings of one student, over the columns that have one."""
        known = [cell.training_s for cell in self.cells if cell.training_s is not None]
        return fmean(known) if known else None


class TableColumn(_Facts):
    """A task and the metric of its scores."""

    name: str
    title: str
    metric: str | None


class ReproducedTable(_Facts):
    """All that a table shows; `expected_source` says where the earlier values are from."""

    name: str
    title: str
    paper: str | None
    paper_url: str | None
    paper_note: str | None
    profile: str
    columns: list[TableColumn]
    rows: list[TableRow]
    expected_source: str | None
    versions: dict[str, str]

    @property
    def missed(self) -> list[tuple[TableRow, Cell]]:
        """Cells whose score is out of tolerance, or that failed."""
        bad = ("near", "off", "failed")
        return [(row, cell) for row in self.rows for cell in row.cells if cell.state in bad]

    @property
    def compared(self) -> list[tuple[TableRow, TableRow]]:
        """Rows with a difference, and the row that they are compared with, once per such row."""
        by_name = {row.name: row for row in self.rows}
        return [
            (row, by_name[other])
            for row in self.rows
            for other in row.compared_with
            if other in by_name and any(other in cell.differences for cell in row.cells)
        ]

    @property
    def num_not_run(self) -> int:
        """Number of cells without a score that did not fail."""
        return self._count("not run")

    @property
    def num_of_other_seeds(self) -> int:
        """Number of cells whose earlier value is a mean over more or fewer seeds."""
        return self._count("other seeds")

    def _count(self, state: State) -> int:
        return sum(cell.state == state for row in self.rows for cell in row.cells)


def state_of(mean: float, expected: float | None, tolerance: float | None) -> State:
    """Compare a score with an earlier one: OK up to the tolerance, near up to twice as much."""
    if expected is None or tolerance is None:
        return "new"
    difference = abs(mean - expected)
    if difference <= tolerance:
        return "OK"
    return "near" if difference <= 2 * tolerance else "off"


def markdown(table: ReproducedTable) -> str:
    """The table in Markdown: ours ± deviation, then the paper's value in parentheses."""
    lines = [f"## {table.title}", ""]
    if table.paper:
        lines += [f"Paper: [{table.paper}]({table.paper_url}).", ""]
    header = ["", *(_column_title(column) for column in table.columns)]
    titles = [*header, *filter(None, _extra_titles(table))]
    lines += [_line(titles), _line(["---"] * len(titles))]
    for row in table.rows:
        cells = [_cell_text(cell) for cell in row.cells]
        lines.append(_line([row.title, *cells, *filter(None, _extras(row))]))
    if table.compared:
        lines += ["", _line(["Difference", *header[1:]]), _line(["---"] * len(header))]
        for row, other in table.compared:
            texts = [difference_text(cell.differences.get(other.name)) for cell in row.cells]
            lines.append(_line([f"{row.title} - {other.title}", *texts]))
    lines += ["", *_notes(table)]
    return "\n".join(lines).rstrip() + "\n"


def page(table: ReproducedTable) -> str:
    """The table as an HTML page without scripts; texts are escaped."""
    best = [_best(table, number) for number in range(len(table.columns))]
    return (
        environment()
        .get_template("reproduced.html")
        .render(
            table=table,
            column_titles=[_column_title(column) for column in table.columns],
            extra_titles=_extra_titles(table),
            extras=[_extras(row) for row in table.rows],
            best=best,
            number=number,
            difference_text=difference_text,
            notes=_notes(table),
        )
    )


def number(value: float | None) -> str:
    """A score in percent with one decimal; a hyphen for none."""
    return _NOTHING if value is None else f"{value:.1f}"


def difference_text(difference: Difference | None) -> str:
    """A difference in points with its interval, and a mark if the interval excludes 0."""
    if difference is None:
        return _NOTHING
    mean, low, high = (
        _signed(value) for value in (difference.mean, difference.low, difference.high)
    )
    text = f"{mean} ({low} to {high})"
    return f"{text} {'better' if difference.mean > 0 else 'worse'}" if difference.is_seen else text


def _signed(value: float) -> str:
    """A number with its sign; zero has none."""
    rounded = f"{value:+.1f}"
    return "0.0" if float(rounded) == 0 else rounded


def _best(table: ReproducedTable, column: int) -> float | None:
    known = [row.cells[column].mean for row in table.rows if row.name != "teacher"]
    return max((mean for mean in known if mean is not None), default=None)


def _cell_text(cell: Cell) -> str:
    if cell.mean is None:
        text = "failed" if cell.state == "failed" else _NOTHING
    else:
        spread = "" if cell.deviation is None else f" ± {cell.deviation:.1f}"
        text = f"{cell.mean:.1f}{spread}"
    if cell.paper is not None:
        text += f" ({cell.paper:.1f})"
    return f"{text} {cell.state}" if cell.state in ("OK", "near", "off") else text


def _extra_titles(table: ReproducedTable) -> list[str]:
    return ["Average" if len(table.columns) > 1 else "", "Training, s"]


def _extras(row: TableRow) -> list[str]:
    average = "" if len(row.cells) == 1 else number(row.average)
    if average and row.paper_average is not None:
        average += f" ({row.paper_average:.1f})"
    return [average, _NOTHING if row.training_s is None else f"{row.training_s:.0f}"]


def _notes(table: ReproducedTable) -> list[str]:
    notes = [
        f"Profile {table.profile}. Scores in percent: mean ± standard deviation over seeds"
        + (", the paper's value in parentheses." if table.paper else ".")
        + " Training: seconds for one student, injection and adaptation"
        + ("; mean over the columns that have a score." if len(table.columns) > 1 else ".")
    ]
    if table.compared:
        notes.append(
            "Differences in points, with 95 % intervals over evaluation rows and seeds; better or "
            "worse: the interval excludes 0. Without either, no difference was seen. Of 20 "
            "intervals of equally good models, about one excludes 0. With one seed, intervals do "
            "not cover other seeds."
        )
    if table.expected_source:
        notes.append(
            f"OK: within the tolerance of the value of {table.expected_source}; near: within "
            "twice of it; off: further away."
        )
        if table.num_of_other_seeds:
            notes.append(
                "Scores not compared, because they are of another number of seeds: "
                f"{table.num_of_other_seeds}."
            )
    if table.paper_note:
        notes.append(table.paper_note)
    notes += [
        f"Failed: {row.title}, {cell.column}: {cell.reason}"
        for row in table.rows
        for cell in row.cells
        if cell.state == "failed"
    ]
    if table.versions:
        versions = ", ".join(f"{name} {version}" for name, version in table.versions.items())
        notes.append(f"Versions: {versions}.")
    return [part for note in notes for part in (note, "")]


def _column_title(column: TableColumn) -> str:
    if column.metric is None:
        return column.title
    return f"{column.title}, {METRIC_TITLES.get(column.metric, column.metric)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
