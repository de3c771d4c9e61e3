"""Write docs/objectives.md: the objectives, and the model families that each supports.

The text and the table of objectives come from objectives_page.md next to this file.

Each family is a random model of a few thousand weights that is probed as preflight probes a run's
models. Run from the repository's root: python tests/support/objectives_table.py
"""

from pathlib import Path

from families import DECODERS, FAMILIES, make_model, make_tokenizer
from objective_settings import SETTINGS

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.probe import Trait, probe
from raykd.objectives import OBJECTIVES

TABLE = Path(__file__).resolve().parents[2] / "docs" / "objectives.md"
_ROLES = ("student", "teacher")
_PAGE = Path(__file__).with_name("objectives_page.md")
_PLACE = "<!-- families -->\n"


def table() -> str:
    """Return the content of the file."""
    reasons: list[str] = []
    lines = [
        f"| family | {' | '.join(SETTINGS)} |",
        f"|---|{'---|' * len(SETTINGS)}",
    ]
    for family in FAMILIES:
        tokenizer = make_tokenizer(decoder=family in DECODERS)
        teacher = make_model(family, num_layers=4)
        student = make_model(family, num_layers=2, seed=1)
        missing = probe(teacher, tokenizer, 16)
        cells = []
        for name in SETTINGS:
            reason = _reason(name, student, teacher, missing)
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"refused {reasons.index(reason) + 1}" if reason else "yes")
        lines.append(f"| {family} | {' | '.join(cells)} |")
    numbered = [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    families = "\n".join(lines) + "\n\n## Reasons\n\n" + "\n".join(numbered) + "\n"
    page = _PAGE.read_text(encoding="utf-8")
    assert _PLACE in page
    return page.replace(_PLACE, families)


def _reason(name: str, student: Encoder, teacher: Encoder, missing: dict[Trait, str]) -> str | None:
    """Return preflight's reason to refuse an objective, or None."""
    config, objective = SETTINGS[name], OBJECTIVES[name]
    for role in _ROLES:
        missing_traits = [trait for trait in missing if trait in objective.traits(config, role)]
        if missing_traits:
            # Measured differences change in their last digits from machine to machine.
            return missing[missing_traits[0]].split(" (")[0]
    try:
        objective.check(config, student, teacher)
    except InputError as error:
        return str(error).split("; use a")[0]
    return None


if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table(), encoding="utf-8")
