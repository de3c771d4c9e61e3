"""Training of a masked-LM head on a frozen encoder: result, resume, refusals."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from event_handlers import calling
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import save_tiny_model, tiny_masked_lm
from transformers import AutoModelForMaskedLM, AutoTokenizer

from raykd.errors import InputError
from raykd.models.encoder import load_tokenizer
from raykd.models.masked_lm import load_masked_lm, missing_head_weights
from raykd.models.tokenization.tokens import TokenizedRows
from raykd.objectives.shared.generator_model import TrainHeadConfig
from raykd.storage.manifest import digest_of_file
from raykd.storage.schemas import EXAMPLES
from raykd.training.masked_lm_head.head import HeadJob, run_head, split
from raykd.training.masked_lm_head.masked_words import (
    masked_at_random,
    measure,
    measure_unigram,
    with_words,
)
from raykd.training.masked_lm_head.report import HeadReport, check_report, read_report
from raykd.training.trainers import Worker

NOUNS = ("film", "book", "plot", "scene", "story", "ending", "music", "voice", "sound", "actor")
ADJECTIVES = ("good", "bad", "fine", "poor", "great", "awful", "dull", "bright", "slow", "quick")
SETTINGS = TrainHeadConfig(
    num_steps=200, batch_size=8, learning_rate=2e-2, max_length=16, held_out_rows=20, text="task"
)


@pytest.fixture
def job(tmp_path) -> HeadJob:
    """Job for a tiny classifier, on sentences of one form: a word's position predicts its class."""
    model = save_tiny_model(tmp_path / "model")
    generator = np.random.default_rng(0)
    rows = [
        "the {} was {} and the {} is not {}".format(*words)
        for words in zip(
            *(generator.choice(words, 240) for words in (NOUNS, ADJECTIVES) * 2), strict=True
        )
    ]
    table = pa.table({"unit_id": [str(row) for row in range(len(rows))], "text": rows})
    pq.write_table(table, tmp_path / "text.parquet")
    return HeadJob(
        name="head",
        out=tmp_path / "out",
        model=str(model),
        text=tmp_path / "text.parquet",
        text_name="sentences",
        head=SETTINGS,
        inputs={"model": "a", "text": "b"},
    )


def test_a_head_learns_words_on_an_unchanged_encoder_and_is_saved_as_a_masked_lm(job):
    run_head(job, Worker())

    report = read_report(job.out)
    assert report.num_rows == 220
    assert report.num_held_out_rows == 20
    assert report.num_steps == 200
    assert report.perplexity < 0.8 * report.unigram_perplexity < report.untrained_perplexity
    assert report.accuracy > report.unigram_accuracy + 0.05
    check_report(report, SETTINGS, str)
    assert len(report.examples) == 8
    for example in report.examples:
        assert "[MASK]" in example.text
        assert "[SEP]" not in example.text
        assert len(example.predictions) == 5

    assert missing_head_weights(str(job.out)) == ()
    before, after = (
        load_file(Path(folder) / "model.safetensors") for folder in (job.model, job.out)
    )
    body = [name for name in after if name.startswith("bert.")]
    assert body
    assert all(torch.equal(before[name], after[name]) for name in body)
    model = AutoModelForMaskedLM.from_pretrained(job.out)
    decoder = model.cls.predictions.decoder.weight
    assert decoder.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert AutoTokenizer.from_pretrained(job.out).mask_token == "[MASK]"  # a regular token
    assert len((job.out / "steps.jsonl").read_text().splitlines()) == 200
    assert not job.unfinished.exists()


def test_a_resumed_head_training_equals_an_uninterrupted_one(job):
    job = replace(job, head=SETTINGS.model_copy(update={"num_steps": 30}))
    run_head(job, Worker())
    expected = digest_of_file(job.out / "model.safetensors")

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 25:
            raise KilledError

    resumed = replace(job, out=job.out.with_name("again"))
    with pytest.raises(KilledError):
        run_head(resumed, Worker(), checkpoint_every_s=0.0, events=calling(on_step=kill))
    assert resumed.finished() is None
    steps: list[int] = []
    run_head(resumed, Worker(), events=calling(on_step=steps.append))

    assert 10 < steps[0] <= 25
    assert digest_of_file(resumed.out / "model.safetensors") == expected
    assert read_report(resumed.out) == read_report(job.out)
    assert resumed.finished() is not None


def test_the_key_covers_the_heads_training_and_excludes_thresholds_and_paths(job):
    def key(**changes: object) -> str:
        return replace(job, head=SETTINGS.model_copy(update=changes)).key()

    assert key() == replace(job, out=job.out.with_name("b"), name="x", model="elsewhere").key()
    assert key(max_perplexity_ratio=0.1, min_accuracy_gain=0.5) == key()
    decisive = {
        "num_steps": 201,
        "text": "corpus",
        "batch_size": 9,
        "learning_rate": 1e-3,
        "seed": 2,
        "mask_probability": 0.2,
        "max_length": 17,
        "precision": "bfloat16",
        "held_out_rows": 5,
    }
    keys = {key(**{name: value}) for name, value in decisive.items()}
    assert len(keys | {key()}) == len(decisive) + 1
    assert set(decisive) | {"max_perplexity_ratio", "min_accuracy_gain"} == set(
        TrainHeadConfig.model_fields
    )
    for name in ("model", "text"):
        assert replace(job, inputs={**job.inputs, name: "other"}).key() != key()


def test_too_few_texts_are_refused(job):
    table = pq.read_table(job.text)
    pq.write_table(table.slice(0, 9), job.text)

    with pytest.raises(InputError, match="sentences has too few texts .* at least 10 different"):
        run_head(job, Worker())


REPORT = HeadReport(
    model="m", text="t", num_steps=2000, num_rows=9, num_held_out_rows=1, num_masked=1234,
    num_parameters=5, perplexity=455.0, accuracy=0.0712, untrained_perplexity=9e4,
    untrained_accuracy=0.0, unigram_perplexity=500.0, unigram_accuracy=0.0601,
    most_frequent="the", examples=[],
)  # fmt: skip


def test_a_head_no_better_than_token_frequencies_is_refused_with_its_scores_and_keys():
    prefix = "adaptation.objective.generator.train_head."
    with pytest.raises(InputError) as error:
        check_report(REPORT, TrainHeadConfig(), prefix.__add__)
    assert str(error.value) == (
        "the masked-LM head trained for m learned too little: on 1,234 masked words of held-out "
        "rows its perplexity is 455.0, 0.91 times the unigram baseline's 500.0 "
        "(adaptation.objective.generator.train_head.max_perplexity_ratio: at most 0.9), and its "
        "accuracy 7.1% against 6.0% for always answering 'the' "
        "(adaptation.objective.generator.train_head.min_accuracy_gain: at least 0.01); train "
        "longer (adaptation.objective.generator.train_head.num_steps, now 2000), on more text, "
        "with another adaptation.objective.generator.train_head.learning_rate, or name a masked "
        "language model as the generator"
    )
    check_report(REPORT, TrainHeadConfig(max_perplexity_ratio=0.91), str)
    with pytest.raises(InputError, match="min_accuracy_gain: at least 0.02"):
        check_report(
            REPORT, TrainHeadConfig(max_perplexity_ratio=0.91, min_accuracy_gain=0.02), str
        )


def test_perplexity_and_accuracy_by_hand():
    model = tiny_masked_lm().eval()
    bias = torch.full((50,), -math.inf)
    bias[[7, 8]] = torch.log(torch.tensor([0.25, 0.75]))
    with torch.no_grad():
        for parameter in model.head_parameters():
            parameter.zero_()
        model.model.cls.predictions.bias.copy_(bias)
    # All words are masked: token 7 three times and token 8 once.
    rows = TokenizedRows(np.int32([2, 7, 7, 3, 2, 7, 8, 3]), None, np.array([0, 4, 8]))

    measured = measure(model, rows, pad_id=0, probability=1.0, seed=1)
    frequencies = np.full(50, 0.01)
    frequencies[7] = 0.5
    unigram = measure_unigram(model, frequencies, rows, pad_id=0, probability=1.0, seed=1)

    assert measured.num_masked == unigram.num_masked == 4
    # exp(-(3 log 0.25 + log 0.75) / 4) and exp(-(3 log 0.5 + log 0.01) / 4)
    assert measured.perplexity == pytest.approx(3.0393, abs=1e-3)
    assert unigram.perplexity == pytest.approx(5.3183, abs=1e-3)
    assert (measured.accuracy, unigram.accuracy) == (0.25, 0.75)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6),
       st.floats(0, 1))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_only_words_are_masked_and_at_least_one_per_row_with_words(are_words, probability):
    words = torch.tensor(are_words)
    masked = masked_at_random(words, probability)

    assert not (masked & ~words).any()
    assert torch.equal(masked.any(1), words.any(1))


def test_masks_have_the_given_probability():
    masked = masked_at_random(torch.ones(200, 100, dtype=torch.bool), 0.15)
    assert masked.float().mean().item() == pytest.approx(0.15, abs=0.01)


def test_rows_without_words_are_removed():
    rows = TokenizedRows(
        np.int32([2, 3, 2, 7, 3, 2, 1, 3, 2, 8, 3]),
        np.int8([0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0]),
        np.array([0, 2, 5, 8, 11]),
    )
    kept = with_words(rows, np.array([0, 1, 2, 3, 4]))

    assert kept.input_ids.tolist() == [2, 7, 3, 2, 8, 3]
    assert kept.token_type_ids is not None
    assert kept.token_type_ids.tolist() == [0, 1, 0, 0, 2, 0]
    assert kept.offsets.tolist() == [0, 3, 6]


@given(
    st.lists(st.integers(0, 30), min_size=40, max_size=120), st.integers(1, 50), st.integers(0, 9)
)
@settings(max_examples=25, deadline=None)
def test_held_out_texts_are_not_trained_on(numbers, held_out_rows, seed):
    rows = [
        {"row_id": row, "sentence1": str(number), "sentence2": str(row), "label": 0.0}
        for row, number in enumerate(numbers)
    ]
    table = pa.Table.from_pylist(rows, schema=EXAMPLES)
    config = TrainHeadConfig(held_out_rows=held_out_rows, seed=seed)
    kept, held_out = split(table, config)
    if len(set(numbers)) < 10:
        assert not kept.num_rows
        assert not held_out.num_rows
        return
    assert kept.num_rows + held_out.num_rows == len(numbers)
    assert held_out.num_rows
    sides = [set(side["sentence1"].to_pylist()) for side in (kept, held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) <= max(1, len(set(numbers)) // 10)


def test_pairs_are_tokenized_as_for_the_generator(job):
    rows = [
        {"row_id": row, "sentence1": f"the {noun}", "sentence2": "is good", "label": 0.0}
        for row, noun in enumerate(NOUNS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), job.text)
    job = replace(job, head=SETTINGS.model_copy(update={"num_steps": 2}))
    run_head(job, Worker())

    assert read_report(job.out).num_rows == 9
    records = [json.loads(line) for line in (job.out / "steps.jsonl").read_text().splitlines()]
    assert [sorted(record["measures"]) for record in records] == [["accuracy"]] * 2
    tokenizer = load_tokenizer(str(job.out))
    assert load_masked_lm(str(job.out)).mask_id == tokenizer.mask_token_id
