"""The command `raykd doctor`."""

import dataclasses
import json
import shlex
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from raykd.cli.options.recipe import JsonOption
from raykd.cluster import node_facts
from raykd.cluster.dashboard import Head, find_head
from raykd.errors import InputError
from raykd.operations.diagnosis import (
    Finding,
    head_findings,
    machine_findings,
    storage_finding,
    token_finding,
)


def doctor(
    recipe: Annotated[
        Path | None, Parameter(help="Recipe, to check what `raykd submit` would send.")
    ] = None,
    /,
    *,
    address: Annotated[
        str | None, Parameter(help="Dashboard of a cluster to check, such as http://HOST:8265.")
    ] = None,
    out: Annotated[str | None, Parameter(help="Place of outputs: URL or directory.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Check this machine, a cluster and a place for outputs; print findings and remedies.

    Returns:
        Exit code: 1 if there is a fault, else 0.
    """
    now_s = time.time()
    findings = machine_findings(node_facts.facts_of_machine(), "here", now_s)
    if out is not None:
        findings.append(storage_finding(out))
    if recipe is not None:
        findings.append(_recipe_finding(recipe))
    if address is not None:
        findings.append(token_finding())
        findings += _cluster_findings(find_head(address), out)
    if as_json:
        text = json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2)
    else:
        text = "\n".join(map(_line, findings))
    print(text)  # noqa: T201  # the command's answer
    return 1 if any(finding.level == "fault" for finding in findings) else 0


def _line(finding: Finding) -> str:
    remedy = "" if finding.remedy is None else f"\n       remedy: {finding.remedy}"
    return f"{finding.level:6} {finding.subject}: {finding.text}{remedy}"


def _recipe_finding(recipe: Path) -> Finding:
    """Check a recipe, and the size of its working directory."""
    from raykd.operations.submission import prepared, size_text
    from raykd.operations.submitted_command import RecipeCommand

    subject = f"recipe {recipe}"
    try:
        with prepared(RecipeCommand("run", recipe, "/"), raykd="image") as made:
            text = f"{len(made.files):,} files, {size_text(made.num_bytes)} are sent with a job"
    except InputError as error:
        return Finding(subject, "fault", str(error), "correct the recipe")
    return Finding(subject, "ok", text)


def _cluster_findings(head: Head, out: str | None) -> list[Finding]:
    """Check the head, then every node by a small job."""
    findings = head_findings(head)
    if any(finding.level == "fault" for finding in findings):
        return findings
    try:
        nodes = _facts_of_nodes(head, out)
    except InputError as error:
        return [*findings, Finding("nodes", "fault", str(error), "raykd submit --list, --logs ID")]
    for node in nodes:
        where = f"{'head' if node['is_head'] else 'node'} {node['host']}"
        findings += machine_findings(node, where, time.time())
    return findings


def _facts_of_nodes(head: Head, out: str | None) -> list[dict[str, Any]]:
    """Collect the facts of all nodes by a job that needs no raykd there.

    Raises:
        InputError: the job failed.
    """
    from raykd.cluster.jobs import Jobs  # imports Ray

    jobs = Jobs(head)
    job_id = f"raykd-doctor-{uuid.uuid4().hex[:8]}"
    folder = Path(tempfile.mkdtemp(prefix="raykd-doctor-"))
    try:
        shutil.copy(node_facts.__file__, folder / "node_facts.py")
        words = ["python", "node_facts.py", *([out] if out is not None else [])]
        jobs.submit(shlex.join(words), {"working_dir": str(folder)}, job_id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    output: list[str] = []
    job = jobs.follow(job_id, output.append)
    for line in "".join(output).splitlines():
        if line.startswith(node_facts.MARK):
            facts: list[dict[str, Any]] = json.loads(line.removeprefix(node_facts.MARK))
            return facts
    last = "".join(output).strip().rpartition("\n")[2]
    raise InputError(f"job {job_id} {job.status.lower()}: {last or job.message}")
