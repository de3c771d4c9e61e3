"""Tuning of a recipe's settings with Ray Tune and Optuna: one student per trial.

A trial trains with the same function as a run (`training.phase.run.run_phase`), in its own process.
It is scored on rows that are not reported: on the dev split if a test split is reported, else on
rows held out of the train split, or by cross-validation (`tune.folds`).
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from raykd import progress
from raykd.cluster.connection import connect
from raykd.errors import InputError
from raykd.report.tune.trials import problems_of, rank
from raykd.storage.manifest import Draft, make_output_directory, stage_key, write_once
from raykd.storage.outputs import alone_in
from raykd.tasks.store import hold_out, write_folds
from raykd.training.pipeline import train_phases
from raykd.training.settings import total_epochs
from raykd.workflow.checks.corpus_keys import TOP_K, TOP_PERCENT
from raykd.workflow.checks.tune_checks import (
    check_augmented,
    check_grace,
    check_space,
    longest_trial,
    section_of,
)
from raykd.workflow.checks.tune_folds import check_folds, check_rows
from raykd.workflow.checks.tune_models import check_choices, prepared_recipes
from raykd.workflow.checks.tune_targets import check_targets
from raykd.workflow.crossval.teachers import run_with_teachers
from raykd.workflow.generators import train_generators
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages
from raykd.workflow.training_stages import cache_outputs, inject_job
from raykd.workflow.tune.choice.outcome import write_result
from raykd.workflow.tune.choice.repetition import REPEATED_FOLDER, confirm
from raykd.workflow.tune.choice.rows import with_search_rows
from raykd.workflow.tune.choice.students import KeptStudents
from raykd.workflow.tune.choice.training import shared_inputs
from raykd.workflow.tune.pipeline import quiet_tune, run_trials
from raykd.workflow.tune.resources import trial_resources
from raykd.workflow.tune.running import SweepWatcher
from raykd.workflow.tune.sampling.samplers import check_sampler
from raykd.workflow.tune.study_page import PAGE_FILE, study_page
from raykd.workflow.tune.study_result import read_result
from raykd.workflow.tune.sweep import Sweep
from raykd.workflow.tune.terminal.lines import TrialLines
from raykd.workflow.tune.terminal.table import TrialTable
from raykd.workflow.tune.trial.corpora import make_largest
from raykd.workflow.tune.trial.setting import (
    CORPORA_FOLDER,
    Setting,
    crossval_of,
    setting_of,
    tracked,
)

_HELD_OUT_FRACTION = 0.2
# Keys that change no result.
_RESOURCE_KEYS = {"workers_per_trial", "cpus_per_trial", "gpus_per_trial", "max_failed_share"}
# Keys with which a sweep is extended.
_EXTENDED_KEYS = ("num_trials", "max_concurrent_trials", "confirm")


def tune(run: Run) -> None:
    """Tune; write RUN/tune/result/trials.json, and RUN/tune/study.journal for live monitoring.

    Another process that writes into the run is waited for.

    Raises:
        InputError: no section `tune`, a key in it that a trial cannot change, or no trial ended.
    """
    recipe = run.recipe
    if recipe.tune is None:
        raise InputError(f"recipe {recipe.name}: no section 'tune', so there is nothing to tune")
    check_folds(recipe)
    check_augmented(recipe)
    check_targets(recipe)
    check_space(recipe)
    check_rows(run)
    check_sampler(recipe.tune)
    trial_resources(recipe)  # refuses missing GPUs before the teacher is trained
    make_output_directory(run.out)
    with alone_in(run.out):
        _tune(run, recipe)


def _tune(run: Run, recipe: Recipe) -> None:
    assert recipe.tune is not None
    setting = prepare(run)
    rows = setting.run.labeled_rows(recipe.adaptation_text(setting.variant))
    longest = longest_trial(recipe, pq.read_metadata(rows).num_rows)
    check_grace(recipe, longest)
    inputs = shared_inputs(setting)
    # Without them, so that sweeps of versions that did not have these keys resume.
    unset = set() if recipe.tune.pick else {"pick"}
    if recipe.tune.folds is None:
        unset.add("folds")
    if setting.targets == (setting.main_metric,):
        unset.add("targets")
    settings: dict[str, Any] = {
        "tune": recipe.tune.model_dump(mode="json", by_alias=True, exclude=_RESOURCE_KEYS | unset),
        **{
            key: section.model_dump(mode="json") if (section := getattr(recipe, key)) else None
            for key in ("student", "adaptation")
        },
        **{
            name: phase.model_dump(mode="json")
            for name, phase in recipe.injection_sections().items()
        },
        "variant": setting.variant,
        "seed": setting.seed,
    }
    if recipe.tune.confirm is not None:
        # A confirmation by an earlier rule is made again.
        settings["tune"]["confirm"]["ties"] = "differences per seed"
    if setting.run.corpora is not None and recipe.retrieval is not None:
        # Values of trials in which a condition of these keys does not hold.
        settings[TOP_K] = recipe.retrieval.top_k
        settings[TOP_PERCENT] = recipe.contextualize.top_percent
    out = setting.folder / "result"
    of_trials = {**settings, "tune": {**settings["tune"], **dict.fromkeys(_EXTENDED_KEYS)}}
    of_trials["tune"].pop("pick", None)  # it changes no trial
    sweep = Sweep(setting.folder, stage_key("trials", of_trials, inputs))
    if moved := sweep.open():
        progress.say(f"tune: the trials of other settings are now in {moved}")
    search = partial(_search, setting, recipe, longest, sweep)
    write_once(out, "tune", settings, inputs, search)
    result = read_result(out, str(run.out))
    trials = result.trials
    if not (run.out / PAGE_FILE).is_file():
        study_page(setting, recipe, trials).write("complete")
    if problems := problems_of(trials):
        num_failed = len(trials) - len(rank(trials))
        progress.say(
            f"tune: {num_failed} of {len(trials)} trials ended without a score: "
            f"{'; '.join(problems)}"
        )
    if result.pick is not None:
        progress.say(f"tune: {result.pick}: trial {result.winner.number}")
    progress.say(f"tune: {run.out / PAGE_FILE}; raykd best {run.out} shows the best trial")


def prepare(run: Run) -> Setting:
    """Choose the variant to tune and the validation rows; build the outputs shared by all trials.

    If no test split is reported, the validation rows are removed from the train split before its
    sentences select the corpus and before the teacher is trained.
    """
    check_choices(run)
    run_stages(run, "task")
    setting = setting_of(run)
    if setting.folds:
        write_folds(
            run.task_folder,
            run.recipe.task.dev_seed,
            [fold.task_folder for fold in setting.folds],
        )
    elif run.task().test is None:
        hold_out(run.task_folder, _HELD_OUT_FRACTION, setting.run.task_folder)
    run_stages(run, "ingest", first="ingest")
    if setting.folds:
        runs = dict(enumerate(setting.folds, 1))
        run_with_teachers(crossval_of(run), runs, first="retrieve", last="teacher")
    elif setting.run.corpora is None:
        run_stages(setting.run, "teacher", first="retrieve")
    else:
        make_largest(setting)
        run_stages(setting.run, "teacher", first="generator")
    for part in setting.parts:
        _cache_outputs(part)
    _inject(setting)
    return with_search_rows(setting)


def _cache_outputs(setting: Setting) -> None:
    """Compute the teacher's outputs, and train the generators, that any trial needs."""
    tuned, own_steps = setting.run, {chain.last for chain in setting.chains}
    for variation in prepared_recipes(tuned.recipe):
        varied = replace(tuned, recipe=variation)
        cached = [step for step in variation.steps_on_outputs() if step in own_steps]
        cache_outputs(varied, cached, train=True)
        if variation is not tuned.recipe:
            train_generators(varied)


def _inject(setting: Setting) -> None:
    """Train the first injections of a chain, if no trial changes a key of theirs."""
    recipe = setting.run.recipe
    assert recipe.tune is not None
    changed = {section_of(key) for name, p in recipe.tune.space.items() for key in p.keys_of(name)}
    for chain in setting.chains:
        is_sliced = setting.run.corpora is not None and chain.last.text.kind == "contextualized"
        if is_sliced or changed & {"student", chain.last.section}:
            break  # trials that change these keys need their own injections from here on
        jobs = []
        for number, part in enumerate(setting.parts, 1):
            job = inject_job(part.run, chain, recipe.student.inits[0], setting.seed)
            name = f"all trials fold {number}" if setting.folds else "all trials"
            jobs.append(tracked(job, name, setting))
        storage = setting.folder / "ray_train"
        train_phases(jobs, recipe.workers, label="inject", storage=storage, only_model=True)


def _num_epochs(setting: Setting, values: Mapping[str, Any]) -> int:
    """Epochs of the adaptation of a trial with some values."""
    recipe = setting.run.recipe.with_values(values, "trial")
    rows = setting.run.labeled_rows(recipe.adaptation_text(setting.variant))
    return total_epochs(recipe.adaptation, pq.read_metadata(rows).num_rows)


def _search(setting: Setting, recipe: Recipe, longest: int, sweep: Sweep, draft: Draft) -> None:
    quiet_tune()
    connect()
    config = recipe.tune
    assert config is not None
    shutil.rmtree(setting.folder / "trials", ignore_errors=True)
    num_ended = len(sweep.trials())
    num_trials = config.most_trials
    num_left = num_trials - num_ended
    page = study_page(setting, recipe, sweep.trials())
    # Those of folds are not the students of a recipe.
    kept = KeptStudents(setting.folder, sweep.trials(), setting.targets, keeps=not setting.folds)
    page.write("running")
    try:
        table = TrialTable(sweep.trials(), num_trials, partial(_num_epochs, setting))
        with progress.track("tune", num_trials, "trials", table) as advance:
            advance(num_ended)
            if num_left > 0:
                lines = TrialLines(advance, sweep.trials(), num_trials)
                watchers: list[SweepWatcher] = [table, lines, page, kept]
                run_trials(setting, num_left, longest, sweep, watchers)
        trials = sweep.trials()
        confirmation = confirm(setting, trials)
    except BaseException:
        page.write("interrupted")
        raise
    page.write("complete", confirmation)
    if not rank(trials):
        raise InputError(f"tune: no trial ended with a score: {'; '.join(problems_of(trials))}")
    write_result(draft.directory, setting, recipe, trials, confirmation)
    for name in ("trials", "injected", "ray", REPEATED_FOLDER, f"{CORPORA_FOLDER}/slices"):
        shutil.rmtree(setting.folder / name, ignore_errors=True)
    draft.counts["num_trials"] = len(trials)
    draft.counts["num_failed"] = len(trials) - len(rank(trials))
