import random

import pytest
import xxhash
from baseline_corpora import card, read, reference_texts, write_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.contextualize.baseline import CorpusSize
from raykd.contextualize.config import ContextualizeConfig
from raykd.contextualize.random_baseline import random_corpus
from raykd.contextualize.sample import draw_from_shard
from raykd.errors import InputError
from raykd.storage import schemas


def run(folder, paths, num_units, evaluation=(), draw=None, num_bytes=None, **config):
    return random_corpus(
        paths,
        CorpusSize(num_units, num_bytes),
        reference_texts(folder, evaluation),
        ContextualizeConfig(**config),
        folder / "out",
        {"units": "digest"},
        draw=draw,
    )


def test_the_units_with_the_smallest_hashes_are_drawn_in_order_of_their_ids(tmp_path):
    units = {f"u{number:03}": f"text {number}" for number in range(500)}
    run(tmp_path, write_shards(tmp_path, [units]), 20, random_seed=7)
    table = read(tmp_path, "text")
    assert table.schema == schemas.TRAINING_TEXT
    drawn = sorted(units, key=lambda unit: xxhash.xxh3_64_intdigest(unit.encode(), 7))[:20]
    assert table["unit_id"].to_pylist() == sorted(drawn)
    assert table["text"].to_pylist() == [units[unit] for unit in sorted(drawn)]
    assert set(table["rank"].to_pylist()) == {0}
    assert table["query_id"].null_count == 20


def test_each_unit_is_drawn_about_equally_often(tmp_path):
    [path] = write_shards(tmp_path, [{f"u{number}": f"{number}" for number in range(2_000)}])
    sizes = [draw_from_shard(path, 0.25, seed).num_rows for seed in range(20)]
    # Four standard deviations of a binomial draw (2000, 1/4) are 78.
    assert all(abs(size - 500) < 78 for size in sizes)
    assert draw_from_shard(path, 1.0, 0).num_rows == 2_000
    assert draw_from_shard(path, 0.0, 0).num_rows == 0


def test_another_seed_draws_other_units(tmp_path):
    paths = write_shards(tmp_path, [{f"u{number}": f"{number}" for number in range(100)}])
    drawn = []
    for seed in (0, 1):
        run(tmp_path, paths, 10, random_seed=seed)
        drawn.append(read(tmp_path, "text")["unit_id"].to_pylist())
    assert drawn[0] != drawn[1]


def test_duplicates_and_contaminated_units_are_replaced(tmp_path):
    # Nine of ten units say the same, so that the first draw cannot be enough.
    units = {f"u{number}": f"own {number}" if number % 10 == 0 else "same" for number in range(300)}
    evaluation = ["own 0", "own 10"]
    run(tmp_path, write_shards(tmp_path, [units]), 25, evaluation)
    texts = read(tmp_path, "text")["text"].to_pylist()
    assert len(texts) == len(set(texts)) == 25
    assert not set(texts) & {"own 0", "own 10"}
    figures = card(tmp_path)
    assert (figures.num_units, figures.num_missing, figures.num_candidates) == (25, 0, 300)
    reasons = read(tmp_path, "removed")["reason"].to_pylist()
    assert reasons.count("duplicate") == figures.num_duplicates > 100
    assert reasons.count("leak") == figures.num_leaks


def test_if_too_few_units_exist_all_are_taken_and_the_card_reports_it(tmp_path):
    paths = write_shards(tmp_path, [{"u0": "a", "u1": "A"}, {"u2": "b"}, {}])
    manifest = run(tmp_path, paths, 10)
    assert read(tmp_path, "text")["text"].to_pylist() in (["a", "b"], ["A", "b"])
    figures = card(tmp_path)
    assert (figures.max_units, figures.num_missing, figures.num_duplicates) == (10, 8, 1)
    assert figures.kind == "random"
    assert manifest.counts["num_missing"] == 8


def test_a_file_listed_twice_is_drawn_once(tmp_path):
    units = {f"u{number}": f"text {number}" for number in range(10)}
    run(tmp_path, write_shards(tmp_path, [units, units]), 20)
    assert read(tmp_path, "text")["unit_id"].to_pylist() == sorted(units)
    assert card(tmp_path).num_duplicates == 10


def test_no_remaining_unit_is_an_error_with_a_remedy(tmp_path):
    paths = write_shards(tmp_path, [{"u0": "Secret!"}])
    with pytest.raises(InputError, match=r"of the 1 units .* none is free .* give a general corp"):
        run(tmp_path, paths, 1, ["secret"])
    with pytest.raises(InputError, match="of the 0 units"):
        run(tmp_path, [], 1)


def test_a_corpus_by_bytes_ends_with_the_unit_that_reaches_them(tmp_path):
    # 6 bytes each: 30 bytes are reached by 5 units, 31 by 6.
    units = {f"u{number:03}": f"text {number % 10}" for number in range(10)}
    paths = write_shards(tmp_path, [units])
    order = sorted(units, key=lambda unit: xxhash.xxh3_64_intdigest(unit.encode(), 0))
    for num_bytes, num_units in ((30, 5), (31, 6)):
        run(tmp_path, paths, None, num_bytes=num_bytes)
        assert read(tmp_path, "text")["unit_id"].to_pylist() == sorted(order[:num_units])
    figures = card(tmp_path)
    assert (figures.num_bytes, figures.target_bytes, figures.num_missing_bytes) == (36, 31, 0)
    run(tmp_path, paths, None, num_bytes=100)
    assert (card(tmp_path).num_units, card(tmp_path).num_missing_bytes) == (10, 40)


def test_a_second_run_draws_nothing(tmp_path):
    paths = write_shards(tmp_path, [{"u0": "a", "u1": "b"}])
    first = run(tmp_path, paths, 1)
    assert run(tmp_path, [], 1, max_units=9) == first
    assert run(tmp_path, [], 1, target_bytes=9) == first
    assert run(tmp_path, [], 1, top_percent=9) == first
    assert run(tmp_path, paths, 2).counts["num_units"] == 2


@settings(deadline=None, max_examples=30)
@given(
    num_units=st.integers(1, 40),
    num_shards=st.sampled_from([1, 2, 3, 7]),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_result_does_not_depend_on_shards_and_their_order(
    num_units, num_shards, seed, tmp_path_factory
):
    chance = random.Random(seed)
    units = {f"u{number}": f"text {chance.randrange(25)}" for number in range(60)}
    shards = [{} for _ in range(num_shards)]
    for unit, text in chance.sample(sorted(units.items()), len(units)):
        chance.choice(shards)[unit] = text
    folders = [tmp_path_factory.mktemp("random") for _ in range(2)]

    def draw_backwards(fraction):
        # Drawing more than is asked for must not show either.
        fraction = min(1.0, fraction * chance.uniform(1, 3))
        return [draw_from_shard(path, fraction, seed) for path in reversed(paths)]

    whole = write_shards(folders[0], [units])
    run(folders[0], whole, num_units, ["text 3"], random_seed=seed)
    paths = write_shards(folders[1], shards)
    run(folders[1], paths, num_units, ["text 3"], draw=draw_backwards, random_seed=seed)
    for name in ("text.parquet", "removed.parquet", "card.json"):
        left, right = ((folder / "out" / name).read_bytes() for folder in folders)
        assert left == right
    texts = set(read(folders[0], "text")["text"].to_pylist())
    assert len(texts) == min(num_units, len(set(units.values()) - {"text 3"}))
