"""The number of epochs that is best by the mean over folds, on hand-made curves."""

import pytest

from raykd.workflow.crossval.epochs import best_epoch, choose, mean_curve


def test_the_choice_is_by_the_mean_curve_and_not_per_fold():
    # Best per fold: 1, 4 and 4. Means: 0.6, 0.7, 0.8, 0.7.
    curves = {
        1: [{1: 0.9, 2: 0.7, 3: 0.8, 4: 0.3}],
        2: [{1: 0.4, 2: 0.7, 3: 0.8, 4: 0.9}],
        3: [{1: 0.5, 2: 0.7, 3: 0.8, 4: 0.9}],
    }

    choice = choose(curves, 4)

    assert choice.chosen == 3
    # Without fold 1: 0.45, 0.7, 0.8, 0.9. Without fold 2: 0.7, 0.7, 0.8, 0.6; fold 3: 0.65, ...
    assert choice.by_fold == {1: 4, 2: 3, 3: 3}


def test_a_folds_own_scores_have_no_part_in_the_choice_for_its_models():
    others = {2: [{1: 0.5, 2: 0.6}], 3: [{1: 0.5, 2: 0.7}]}
    for own in ({1: 1.0, 2: 0.0}, {1: 0.0, 2: 1.0}):
        assert choose({1: [own], **others}, 2).by_fold[1] == 2


def test_seeds_are_averaged_within_a_fold_first():
    curves = {1: [{1: 1.0, 2: 0.0}, {1: 0.0, 2: 0.5}], 2: [{1: 0.2, 2: 0.3}, {1: 0.2, 2: 0.3}]}

    choice = choose(curves, 2)

    assert choice.curves == {1: {1: 0.5, 2: 0.25}, 2: {1: 0.2, 2: 0.3}}
    assert choice.chosen == 1
    points = choice.facts("direct", "skip").points
    assert [point.mean for point in points] == pytest.approx([0.35, 0.275])
    # Sample standard deviation of 0.5 and 0.2, and of 0.25 and 0.3.
    assert [point.deviation for point in points] == pytest.approx([0.212132, 0.0353553], abs=1e-6)


def test_equal_means_choose_the_fewest_epochs_whatever_their_rounding():
    assert best_epoch({1: 0.2, 2: 0.30000000000000004, 3: 0.3}) == 2
    assert best_epoch({1: 0.2, 2: 0.3, 3: 0.30000000000000004}) == 2


def test_only_epochs_that_all_curves_have_are_compared():
    assert mean_curve([{1: 0.0, 2: 1.0, 3: 1.0}, {1: 1.0, 3: 0.5}]) == {1: 0.5, 3: 0.75}
