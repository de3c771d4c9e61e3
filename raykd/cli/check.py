"""The command `raykd check`."""

import dataclasses
import json
from typing import Annotated

from cyclopts import Parameter

from raykd.cli.options.recipe import JsonOption
from raykd.operations.integrity import IntegrityReport, check_integrity

_NUM_SHOWN = 50


def check(
    folder: Annotated[str, Parameter(name="RUN", help="Run directory or URL, or another output.")],
    /,
    *,
    as_json: JsonOption = False,
) -> int:
    """Compare every file with its manifest, and print what is damaged.

    Returns:
        Exit code: 1 if anything is damaged, else 0.
    """
    from raykd.storage.remote.inspect import everything_at  # keeps `raykd --help` fast

    with everything_at(folder) as local:
        report = dataclasses.replace(check_integrity(local), folder=folder)
    text = json.dumps(dataclasses.asdict(report), indent=2) if as_json else _text(report)
    print(text)  # noqa: T201  # the command's answer
    return 1 if report.damages else 0


def _text(report: IntegrityReport) -> str:
    lines = [
        f"{report.folder}: {report.num_manifests:,} manifests, {report.num_files:,} files, "
        f"{report.num_bytes / 1e6:,.1f} MB compared"
    ]
    lines += [f"damaged: {one.path}: {one.problem}" for one in report.damages[:_NUM_SHOWN]]
    if more := len(report.damages) - _NUM_SHOWN:
        lines += [f"and {more:,} more damaged files"] if more > 0 else []
    if not report.damages:
        lines.append("nothing is damaged")
    if report.redone:
        lines.append("rerunning the same command writes again:")
        for one in report.redone:
            shown = ", ".join(one.outputs[:5])
            more_outputs = f" and {len(one.outputs) - 5:,} more" if len(one.outputs) > 5 else ""
            lines.append(f"  {one.stage} ({one.reason}): {shown}{more_outputs}")
        lines.append("  later stages, where the new output differs")
    return "\n".join([*lines, *report.remarks])
