"""Variants of BM25, against hand-computed values and other packages."""

import math
from typing import Any

import bm25s
import numpy as np
import pytest
from bm25s import scoring as bm25s_scoring
from rank_bm25 import BM25Plus

from raykd.errors import InputError
from raykd.retrieval.bm25.scoring import Bm25Config, idf, length_norm, saturation, saturation_form

VARIANTS: list[Any] = ["lucene", "robertson", "atire", "bm25l", "bm25+"]


def counted(tf: int, length: int, average: float, config: Bm25Config) -> float:
    norm = length_norm(np.array([length]), average, config)[0]
    return saturation(float(tf), norm, saturation_form(config))


def test_saturations_match_hand_computed_values() -> None:
    # relative length = 0.25 + 0.75 * 2 = 1.75; norm = 1.2 * 1.75 = 2.1; tf = 3
    values = {
        variant: counted(3, 20, 10.0, Bm25Config(variant=variant, k1=1.2, b=0.75))
        for variant in VARIANTS
    }
    assert values["lucene"] == values["robertson"] == pytest.approx(3 / 5.1, rel=1e-15)
    assert values["atire"] == pytest.approx(2.2 * 3 / 5.1, rel=1e-15)
    assert values["bm25+"] == pytest.approx(2.2 * 3 / 5.1 + 1, rel=1e-15)
    shifted = 3 / 1.75 + 0.5
    assert values["bm25l"] == pytest.approx(2.2 * shifted / (1.2 + shifted), rel=1e-15)


def test_idfs_match_hand_computed_values() -> None:
    df = np.array([0, 1, 6, 10])
    values = {variant: idf(df, 10, Bm25Config(variant=variant)).tolist() for variant in VARIANTS}
    assert values["lucene"][1] == pytest.approx(math.log(1 + 9.5 / 1.5), rel=1e-15)
    assert values["robertson"][1:] == [pytest.approx(math.log(9.5 / 1.5)), 0.0, 0.0]
    assert values["atire"] == [0.0, math.log(10), pytest.approx(math.log(10 / 6)), 0.0]
    assert values["bm25l"][1] == pytest.approx(math.log(11 / 1.5))
    assert values["bm25+"][:2] == [0.0, math.log(11)]
    assert all(value >= 0 for each in values.values() for value in each)


@pytest.mark.parametrize("variant", VARIANTS)
def test_terms_of_a_unit_score_as_in_bm25s(variant: Any) -> None:
    config = Bm25Config(variant=variant, k1=1.5, b=0.6)
    delta = saturation_form(config)[2]
    scorer = bm25s_scoring._select_tfc_scorer(variant)
    inverse = bm25s_scoring._select_idf_scorer(variant)
    for tf, length, df in [(1, 5, 1), (4, 80, 7), (2, 12, 19)]:
        expected = scorer(np.array([tf]), length, 17.5, 1.5, 0.6, delta)[0]
        assert counted(tf, length, 17.5, config) == pytest.approx(expected, rel=1e-14)
        [ours] = idf(np.array([df]), 20, config)
        assert ours == pytest.approx(inverse(df, 20), rel=1e-14)


def test_a_unit_with_all_terms_scores_as_in_rank_bm25() -> None:
    # Not its BM25L: it multiplies by the raw frequency once more than the paper.
    units = ["cat dog dog", "dog", "bee", "cat bee bee bee cat", "ape", "ape cat dog"]
    config = Bm25Config(variant="bm25+", k1=1.5, b=0.75)
    engine = BM25Plus([unit.split() for unit in units], k1=1.5, b=0.75)
    weights = idf(np.array([3, 3]), 6, config)
    lengths = [len(unit.split()) for unit in units]
    for number in (0, 5):
        tfs = [units[number].split().count(word) for word in ("cat", "dog")]
        ours = sum(
            weight * counted(tf, lengths[number], np.mean(lengths), config)
            for weight, tf in zip(weights, tfs, strict=True)
        )
        assert ours == pytest.approx(engine.get_scores(["cat", "dog"])[number], rel=1e-12)


def test_bm25s_knows_the_same_variants() -> None:
    for variant in VARIANTS:
        bm25s.BM25(method=variant)


def test_an_unused_delta_is_an_error_with_the_variants_that_use_it() -> None:
    with pytest.raises(InputError, match="delta is a parameter of bm25l and bm25\\+, not of atire"):
        Bm25Config.parse({"variant": "atire", "delta": 1}, "recipe")
    assert saturation_form(Bm25Config(variant="bm25l", delta=0))[2] == 0
