"""The command `raykd schema`."""

from typing import Annotated

from cyclopts import Parameter


def schema(
    *,
    markdown: Annotated[
        bool, Parameter(negative="", help="Print the reference of all keys as Markdown.")
    ] = False,
) -> None:
    """Print the JSON schema of recipes, or the reference of their keys."""
    from raykd.workflow.reference.json_schema import recipe_schema_text
    from raykd.workflow.reference.markdown import recipe_reference

    print(recipe_reference() if markdown else recipe_schema_text(), end="")  # noqa: T201  # answer
