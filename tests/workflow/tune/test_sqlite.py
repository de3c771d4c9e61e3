"""Copy of a sweep's Optuna study in a SQLite file."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raykd.errors import InputError
from raykd.workflow.tune.choice.sqlite import copy_to_sqlite


def test_the_copy_has_all_trials_and_values(tmp_path):
    (tmp_path / "tune").mkdir()
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "tune" / "study.journal")))
    study = optuna.create_study(study_name="cola", storage=storage, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("rate", 0.0, 1.0), n_trials=3)
    target = tmp_path / "copies" / "study.db"
    copy_to_sqlite(tmp_path, target)
    copy = optuna.load_study(study_name="cola", storage=f"sqlite:///{target}")
    assert [trial.params for trial in copy.trials] == [trial.params for trial in study.trials]
    assert copy.best_value == study.best_value
    assert [path.name for path in target.parent.iterdir()] == ["study.db"]
    with pytest.raises(InputError, match=r"study.db: exists already; give --sqlite a new file"):
        copy_to_sqlite(tmp_path, target)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(InputError, match="no study there; give the run directory"):
        copy_to_sqlite(tmp_path, tmp_path / "study.db")
    assert not (tmp_path / "study.db").exists()
