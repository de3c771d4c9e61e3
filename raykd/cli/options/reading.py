"""Options for reading a corpus, shared by several commands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from raykd.corpus.custom.units import Reading

ColumnNames = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="Column names of CSV and TSV files without a header line.",
    ),
]


@Parameter(name="*", group=Group("Corpus files", sort_key=1))
@dataclass(frozen=True)
class ReadingOptions:
    """Options for reading a corpus; None if not given."""

    exclude: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Skip files and folders with these names or paths (patterns such as '*.md').",
        ),
    ] = None
    columns: ColumnNames = None
    quoting: Annotated[
        Literal["auto", "none", "standard"] | None,
        Parameter(help="Quotation marks around fields of CSV and TSV files.", show_default="auto"),
    ] = None
    empty: Annotated[
        Literal["skip", "error"] | None,
        Parameter(help="Handling of documents without text.", show_default="skip"),
    ] = None

    def reading(self) -> "Reading":
        """Convert the options for `corpus.custom_units`."""
        # Imported here to keep `raykd --help` fast.
        from raykd.corpus.custom.units import Reading
        from raykd.storage.delimited import Layout

        columns = None if self.columns is None else tuple(self.columns)
        return Reading(
            tuple(self.exclude or ()), Layout(columns, self.quoting or "auto"), self.empty or "skip"
        )


NO_READING_OPTIONS = ReadingOptions()
