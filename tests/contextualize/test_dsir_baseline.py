import random

import numpy as np
import oracle_dsir
import pytest
from baseline_corpora import card, read, reference_texts, write_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.contextualize import dsir_baseline
from raykd.contextualize.baseline import CorpusSize
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.dsir_baseline import dsir_corpus
from raykd.errors import InputError

TASK = ("the river bank", "a bank of the river")
WORDS = ("river", "bank", "the", "money", "loan", "of", "tree", "a")


def units_of(seed, num_units=120):
    chance = random.Random(seed)
    return {
        f"u{number:03}": " ".join([f"x{number}", *chance.choices(WORDS, k=chance.randint(1, 6))])
        for number in range(num_units)
    }


def run(folder, paths, size, *, evaluation=(), task=TASK, for_each=None, **config):
    return dsir_corpus(
        paths,
        CorpusSize(*size),
        reference_texts(folder, evaluation, task),
        ContextualizeConfig(**config),
        folder / "out",
        {"units": "digest"},
        for_each=for_each,
    )


def drawn(folder):
    return read(folder, "text")["unit_id"].to_pylist()


@pytest.mark.parametrize(("num_buckets", "smoothing"), [(10_000, 1e-8), (16, 1e-2)])
def test_the_units_of_the_largest_keys_are_drawn_as_by_the_formula(
    tmp_path, num_buckets, smoothing
):
    units = units_of(1)
    settings = {"num_buckets": num_buckets, "smoothing": smoothing}
    run(tmp_path, write_shards(tmp_path, [units]), (20,), random_seed=7, dsir=settings)
    assert drawn(tmp_path) == oracle_dsir.best(units, TASK, 20, 7, num_buckets, smoothing)
    figures = card(tmp_path)
    assert (figures.kind, figures.num_units, figures.num_candidates) == ("dsir", 20, 120)
    found, general = read(tmp_path, "text")["text"].to_pylist(), list(units.values())
    weights = [
        [oracle_dsir.log_weight(text, TASK, general, num_buckets, smoothing) for text in of]
        for of in (found, general)
    ]
    assert figures.dsir.mean_log_weight == pytest.approx(np.mean(weights[0]))
    assert figures.dsir.mean_log_weight_general == pytest.approx(np.mean(weights[1]))
    assert figures.dsir.num_task_ngrams == 3 + 2 + 5 + 4


@settings(deadline=None, max_examples=15)
@given(
    num_units=st.integers(1, 40), num_shards=st.sampled_from([1, 2, 5]), seed=st.integers(0, 2**32)
)
def test_the_result_does_not_depend_on_shards_and_their_order(
    num_units, num_shards, seed, tmp_path_factory
):
    chance = random.Random(seed)
    units = {unit: text.partition(" ")[2] for unit, text in units_of(seed, 60).items()}
    shards = [{} for _ in range(num_shards)]
    for unit, text in chance.sample(sorted(units.items()), len(units)):
        chance.choice(shards)[unit] = text
    folders = [tmp_path_factory.mktemp("dsir") for _ in range(2)]
    for folder, parts in zip(folders, ([units], shards), strict=True):
        run(
            folder, write_shards(folder, parts), (num_units,), evaluation=["bank"], random_seed=seed
        )
    for name in ("text.parquet", "removed.parquet", "card.json"):
        left, right = ((folder / "out" / name).read_bytes() for folder in folders)
        assert left == right
    kept = set(read(folders[0], "text")["text"].to_pylist())
    assert len(kept) == min(num_units, len(set(units.values()) - {"bank"}))


def test_another_seed_draws_other_units(tmp_path):
    paths = write_shards(tmp_path, [units_of(2)])
    found = []
    for seed in (0, 1):
        run(tmp_path, paths, (20,), random_seed=seed, dsir={"smoothing": 1e-2})
        found.append(drawn(tmp_path))
    assert found[0] != found[1]


def test_duplicates_and_contaminated_units_are_replaced(tmp_path):
    units = {
        f"u{number:03}": "river bank" if number % 2 else f"bank {number}" for number in range(60)
    }
    run(tmp_path, write_shards(tmp_path, [units]), (25,), evaluation=["bank 0", "bank 2"])
    texts = read(tmp_path, "text")["text"].to_pylist()
    assert len(texts) == len(set(texts)) == 25
    assert not set(texts) & {"bank 0", "bank 2"}
    assert card(tmp_path).num_duplicates > 0


def test_a_corpus_by_bytes_has_as_many_bytes(tmp_path):
    units = units_of(3)
    run(tmp_path, write_shards(tmp_path, [units]), (None, 300))
    sizes = sorted(len(text) for text in read(tmp_path, "text")["text"].to_pylist())
    assert 300 <= sum(sizes) < 300 + sizes[-1]
    assert (card(tmp_path).target_bytes, card(tmp_path).num_bytes) == (300, sum(sizes))


def test_an_interrupted_draw_weighs_only_the_remaining_shards(tmp_path):
    units = sorted(units_of(4).items())
    paths = write_shards(tmp_path, [dict(units[:40]), dict(units[40:80]), dict(units[80:])])
    calls = []

    def stopping_at(last):
        def for_each(function, items, *, shared, **_):
            results = []
            for item in items:
                calls.append((function.__name__, item))
                if len(calls) == last:
                    raise KeyboardInterrupt
                results.append(function(item, **shared))
            return results

        return for_each

    # 3 shards are counted, and the first of them is weighed.
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, paths, (10,), for_each=stopping_at(5))
    assert not (tmp_path / "out").exists()
    written = sorted(path.parent.name for path in tmp_path.glob(".out.parts/*/manifest.json"))
    assert written == ["counts-00000", "counts-00001", "counts-00002", "keys-00000"]
    with pytest.MonkeyPatch.context() as patch:
        analyzed = []
        for name in ("ngram_counts", "log_weights"):
            function = getattr(dsir_baseline, name)
            patch.setattr(
                dsir_baseline,
                name,
                lambda texts, *rest, name=name, function=function: (
                    analyzed.append((name, len(texts))) or function(texts, *rest)
                ),
            )
        run(tmp_path, paths, (10,))
    # The task's two sentences, two shards of 40 units, and the ten units of the corpus.
    assert analyzed == [
        ("ngram_counts", 2),
        ("log_weights", 40),
        ("log_weights", 40),
        ("ngram_counts", 10),
    ]
    assert drawn(tmp_path) == oracle_dsir.best(dict(units), TASK, 10, 0, 10_000, 1e-8)
    assert not list(tmp_path.glob(".out*"))


def test_a_task_without_words_and_a_corpus_without_clean_units_are_errors(tmp_path):
    paths = write_shards(tmp_path, [{"u0": "Secret!"}, {}])
    with pytest.raises(InputError, match="dsir corpus: the task's training sentences contain no"):
        run(tmp_path, paths, (1,), task=("...",))
    with pytest.raises(InputError, match="dsir corpus: of the 1 units .* none is free"):
        run(tmp_path, paths, (1,), evaluation=["secret"])
    with pytest.raises(InputError, match="of the 0 units"):
        run(tmp_path, [], (1,))


def test_a_second_run_draws_nothing(tmp_path):
    paths = write_shards(tmp_path, [{"u0": "a", "u1": "b"}])
    first = run(tmp_path, paths, (1,))
    assert run(tmp_path, [], (1,), max_units=9) == first
    assert run(tmp_path, paths, (2,)).counts["num_units"] == 2
