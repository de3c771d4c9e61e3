"""The number of epochs that is best by the mean over folds, on hand-made curves."""

import pytest

from raykd.workflow.crossval.epochs import best_epoch, choose, clear_epoch, mean_curve


def test_the_choice_is_by_the_mean_curve_and_not_per_fold():
    # Best per fold: 1, 3 and 3. Means: 0.6, 0.7, 0.8, 0.5.
    curves = {
        1: [{1: 0.9, 2: 0.7, 3: 0.8, 4: 0.6}],
        2: [{1: 0.4, 2: 0.7, 3: 0.8, 4: 0.5}],
        3: [{1: 0.5, 2: 0.7, 3: 0.8, 4: 0.4}],
    }

    choice = choose(curves, 4)

    assert (choice.best, choice.chosen) == (3, 3)
    assert choice.by_fold == {1: 3, 2: 3, 3: 3}


def test_all_epochs_are_chosen_unless_the_best_one_is_better_by_a_standard_error():
    # Gains of epoch 1 over epoch 2: 0.4, -0.1 and 0; mean 0.1, standard error 0.153.
    unclear = [{1: 0.9, 2: 0.5}, {1: 0.5, 2: 0.6}, {1: 0.6, 2: 0.6}]
    # 0.2, 0.1 and 0; mean 0.1, standard error 0.058.
    clear = [{1: 0.7, 2: 0.5}, {1: 0.6, 2: 0.5}, {1: 0.6, 2: 0.6}]

    assert clear_epoch(unclear) == 2
    assert clear_epoch(clear) == 1
    # A gain that is as large as its standard error: 0.1 and 0.
    assert clear_epoch([{1: 0.6, 2: 0.5}, {1: 0.5, 2: 0.5}]) == 2
    choice = choose(dict(enumerate([[curve] for curve in unclear])), 2)
    assert (choice.best, choice.chosen) == (1, 2)


def test_a_folds_own_scores_have_no_part_in_the_choice_for_its_models():
    others = {2: [{1: 0.5, 2: 0.6}], 3: [{1: 0.5, 2: 0.7}]}
    for own in ({1: 1.0, 2: 0.0}, {1: 0.0, 2: 1.0}):
        assert choose({1: [own], **others}, 2).by_fold[1] == 2
    assert choose({1: [{1: 0.9, 2: 0.1}], 2: [{1: 0.2, 2: 0.4}]}, 2).by_fold == {1: 2, 2: 1}


def test_seeds_are_averaged_within_a_fold_first():
    curves = {1: [{1: 1.0, 2: 0.0}, {1: 0.0, 2: 0.5}], 2: [{1: 0.2, 2: 0.3}, {1: 0.2, 2: 0.3}]}

    choice = choose(curves, 2)

    assert choice.curves == {1: {1: 0.5, 2: 0.25}, 2: {1: 0.2, 2: 0.3}}
    assert choice.best == 1
    points = choice.facts("direct", "skip").points
    assert [point.mean for point in points] == pytest.approx([0.35, 0.275])
    # Sample standard deviation of 0.5 and 0.2, and of 0.25 and 0.3.
    assert [point.deviation for point in points] == pytest.approx([0.212132, 0.0353553], abs=1e-6)


def test_equal_means_choose_the_fewest_epochs_whatever_their_rounding():
    assert best_epoch({1: 0.2, 2: 0.30000000000000004, 3: 0.3}) == 2
    assert best_epoch({1: 0.2, 2: 0.3, 3: 0.30000000000000004}) == 2


def test_only_epochs_that_all_curves_have_are_compared():
    assert mean_curve([{1: 0.0, 2: 1.0, 3: 1.0}, {1: 1.0, 3: 0.5}]) == {1: 0.5, 3: 0.75}
