"""Students of one trial on the folds of a sweep with `tune.folds`, and their pooled scores."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from raykd.evaluation.predict import Scorer
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.tasks.metrics import compute
from raykd.training.phase.job import MODEL_FOLDER
from raykd.workflow.collect import curve_points
from raykd.workflow.crossval.epochs import choose, epoch_scores
from raykd.workflow.crossval.folds import chooses, without_choices
from raykd.workflow.scoring.jobs import max_length_of
from raykd.workflow.tune.trial.setting import Setting, fold_folder


class FoldStudents:
    """Trained students of one trial, one per fold, scored as those of `raykd crossval`.

    Args:
        setting: values shared by the trials.
        values: values of the searched keys.
        trained: folder of the trainings, see `setting.fold_folder`.
    """

    def __init__(self, setting: Setting, values: Mapping[str, Any], trained: Path) -> None:
        self._setting, self._trained = setting, trained
        self._recipe = setting.run.recipe.with_values(values, "trial")
        section = "alone" if setting.variant == "alone" else "adaptation"
        self._chooses_epochs = chooses(self._recipe, section)
        self._metrics = setting.run.task().metrics
        self.values = {**values, **without_choices(self._recipe, ["adaptation", "alone"])}
        self.numbers = range(1, len(setting.folds) + 1)

    def stops(self) -> dict[int, int]:
        """Epochs of each student for which fewer than all were chosen, by the other folds.

        Empty without `keep: best`. All students are trained for all epochs before.
        """
        if not self._chooses_epochs:
            return {}
        metric = self._setting.main_metric
        curves = {number: [epoch_scores(self._folder(number), metric)] for number in self.numbers}
        num_epochs = max(curves[1][0])
        choice = choose(curves, num_epochs)
        return {number: stop for number, stop in choice.by_fold.items() if stop < num_epochs}

    def mean_curve(self) -> dict[float, dict[str, float]]:
        """Mean scores over folds by epoch, except after the last one."""
        curves = [
            {point.epoch: point.metrics for point in curve_points(self._folder(number))}
            for number in self.numbers
        ]
        epochs = sorted(set(curves[0]).intersection(*curves[1:]))[:-1]
        return {
            epoch: {name: fmean(curve[epoch][name] for curve in curves) for name in self._metrics}
            for epoch in epochs
            if all(curve[epoch] for curve in curves)
        }

    def scores(self, device: torch.device | None = None) -> dict[str, float]:
        """Metrics of the held-out rows of all folds together, each predicted by its student."""
        stops, labels, answers = self.stops(), [], []
        length = max_length_of(self._recipe, self._setting.variant, "adapted")
        for number, part in zip(self.numbers, self._setting.parts, strict=True):
            model = str(self._folder(number, stopped=number in stops) / MODEL_FOLDER)
            scorer = Scorer(part.run.split("dev"), self._metrics, max_length=length)
            encoder = load_encoder(model).to(device)
            own_labels, own_answers = scorer.answers(encoder, load_tokenizer(model))
            labels.append(own_labels)
            answers.append(own_answers)
        return compute(self._metrics, np.concatenate(labels), np.concatenate(answers))

    def _folder(self, number: int, *, stopped: bool = False) -> Path:
        return fold_folder(self._trained, number, stopped=stopped)
