"""Copy of a sweep's Optuna study in a SQLite file."""

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raykd import progress
from raykd.errors import InputError
from raykd.storage.working_files import partial_of
from raykd.workflow.tune.sweep import STUDY_FILE


def copy_to_sqlite(run: Path, target: Path) -> None:
    """Copy the study of a running, interrupted or completed sweep to a new SQLite file.

    Args:
        run: run directory.
        target: file to create.

    Raises:
        InputError: there is no study, or the target exists.
    """
    journal = run / "tune" / STUDY_FILE
    if not journal.is_file():
        raise InputError(f"{run}: no study there; give the run directory of raykd tune (runs/NAME)")
    if target.exists():
        raise InputError(f"{target}: exists already; give --sqlite a new file")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source = JournalStorage(JournalFileBackend(str(journal)))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    try:
        for name in optuna.get_all_study_names(source):
            optuna.copy_study(
                from_study_name=name, from_storage=source, to_storage=f"sqlite:///{partial}"
            )
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    progress.say(f"study: {target}; optuna-dashboard sqlite:///{target} shows it")
