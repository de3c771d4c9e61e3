"""Options of the commands that read any corpus: what is left out, and how files are written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from raykd.corpus.custom_units import Reading

# Names of the columns of a file, an option that takes several.
ColumnNames = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="Names of the columns of CSV and TSV files without a header line.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class ReadingOptions:
    """Options of a corpus."""

    exclude: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Leave out files and folders of these names or paths (patterns, as '*.md').",
        ),
    ] = None
    columns: ColumnNames = None
    quoting: Annotated[
        Literal["auto", "none", "standard"],
        Parameter(help="Whether quotation marks enclose fields of CSV and TSV files."),
    ] = "auto"
    empty: Annotated[
        Literal["skip", "error"], Parameter(help="What becomes of documents without text.")
    ] = "skip"

    def reading(self) -> "Reading":
        """The options as `corpus.custom_units` takes them."""
        # A second of imports, which `raykd --help` is spared.
        from raykd.corpus.custom_units import Reading
        from raykd.storage.delimited import Layout

        columns = None if self.columns is None else tuple(self.columns)
        return Reading(tuple(self.exclude or ()), Layout(columns, self.quoting), self.empty)


AS_FOUND = ReadingOptions()
