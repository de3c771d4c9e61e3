"""Jinja templates of the pages: texts are escaped, and an unknown name is an error."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str = "raykd.report") -> Environment:
    """Load the templates of a package, from its folder `templates`."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
