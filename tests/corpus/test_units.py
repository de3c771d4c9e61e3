from pathlib import Path

import oracle_units
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.corpus.rows import Document
from raykd.corpus.texts import Texts
from raykd.corpus.units import UnitsConfig, cut, unit_id
from raykd.errors import InputError

GENERAL_TEXT = Path(__file__).resolve().parents[3] / "shared/data/corpus/general_a.parquet"

DIGEST = "0123456789abcdef" * 2
THREE = "Rain fell all day.  The river rose quickly.\nNobody slept that night."


def config(**values):
    return UnitsConfig.parse(values, "test")


def units_of(text, units_config):
    """The units of a document, with their offsets."""
    batch, *_ = cut(texts_of([text]), DIGEST, units_config)
    return [
        (int(name.split("-")[2]), piece)
        for name, piece in zip(*batch.to_pydict().values(), strict=True)
    ]


def batch_texts(texts):
    return texts_of(texts).starts


def texts_of(texts):
    """Documents of one file."""
    return Texts.of_rows(Document("a.txt", 7 * n, text) for n, text in enumerate(texts))


def test_packed_joins_adjacent_sentences_up_to_max_words():
    assert units_of(THREE, config(max_words=8, min_words=1)) == [
        (0, "Rain fell all day.  The river rose quickly."),
        (44, "Nobody slept that night."),
    ]


def test_packed_keeps_a_document_that_fits_as_one_unit():
    assert units_of(f" {THREE}\n", config()) == [(1, THREE)]


def test_sentence_keeps_each_sentence_apart():
    assert units_of(THREE, config(policy="sentence", min_words=1)) == [
        (0, "Rain fell all day."),
        (20, "The river rose quickly."),
        (44, "Nobody slept that night."),
    ]


def test_line_keeps_documents_of_any_length_unchanged():
    assert units_of(" a b. ", config(policy="line")) == [(0, " a b. ")]
    long = "One two three. " * 500
    assert units_of(long, config(policy="line")) == [(0, long)]


@pytest.mark.parametrize("policy", ["packed", "sentence"])
def test_a_sentence_above_max_words_is_cut_at_white_space(policy):
    words = " ".join(f"w{number}" for number in range(7))
    assert units_of(words, config(policy=policy, max_words=3, min_words=1)) == [
        (0, "w0 w1 w2"),
        (9, "w3 w4 w5"),
        (18, "w6"),
    ]


def test_pieces_under_min_words_are_dropped():
    text = "This sentence has six words here. Too short. This sentence has six words too."
    assert units_of(text, config(policy="sentence", min_words=3)) == [
        (0, "This sentence has six words here."),
        (45, "This sentence has six words too."),
    ]


def test_text_without_words_gives_no_unit():
    assert units_of(" \n\t", config()) == []
    assert units_of("", config(policy="sentence")) == []


def test_a_sentence_across_two_windows_is_not_cut():
    sentences = [f"Sentence number {number} warns of nothing new." for number in range(1000)]
    units = units_of(" ".join(sentences), config(policy="sentence"))
    assert [text for _, text in units] == sentences


def test_text_without_a_break_for_many_windows_loses_no_character():
    text = "x" * 20_000
    pieces = [text for _, text in units_of(text, config(policy="sentence", min_words=1))]
    assert "".join(pieces) == text


def test_sentence_ends_outside_ascii_are_found_across_windows():
    # In one call sentencex needs a quarter of a minute for this, and four times that for twice it.
    text = "é。" * 100_000
    pieces = [piece for _, piece in units_of(text, config(policy="sentence", min_words=1))]
    assert pieces == ["é。"] * 100_000


# Letters, abbreviations, every kind of white space and sentence ends, and anything else.
TEXT = st.text(
    st.one_of(
        st.sampled_from("aB .!?\n\r\t\v\x1c\x85\xa0\u2028\u3000。é…\"'()"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=300,
)
CONFIGS = st.builds(
    UnitsConfig,
    policy=st.sampled_from(["packed", "sentence", "line"]),
    max_words=st.integers(5, 20),
    min_words=st.integers(1, 5),
)


def oracle_of(texts, units_config):
    """Id and text of the units, and how many pieces were too short, by the naive implementation."""
    units = [
        (unit_id(DIGEST, 7 * number, offset), piece)
        for number, text in enumerate(texts)
        for offset, piece in oracle_units.units_of(text, units_config)
    ]
    num_pieces = sum(len(oracle_units.cut(text, units_config)) for text in texts)
    return units, num_pieces - len(units)


def assert_equals_oracle(texts, units_config):
    batch, num_dropped, num_without = cut(texts_of(texts), DIGEST, units_config)
    batch.validate(full=True)
    units = list(zip(*batch.to_pydict().values(), strict=True))
    assert (units, num_dropped) == oracle_of(texts, units_config)
    # Each document has a place of its own in the file.
    assert num_without == len(batch_texts(texts)) - len({name.split("-")[1] for name, _ in units})


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=4), CONFIGS)
def test_units_match_the_naive_implementation(texts, units_config):
    assert_equals_oracle(texts, units_config)


UNSPACED_TEXT = st.lists(
    st.sampled_from(
        [
            *"我们去。\uff0c《》\uff08\uff09、 かカーｶ々〇",
            "ไป",
            "ก\u0301",
            "\u0e31",
            "ລາວ",
            "ខ្មែរ។ ",
            "မြန်မာ။",
            "한국어",
            "abc",
            "2020",
            "x_1",
            "\u0301",
            "🙂",
            "— ",
            "é ",
            "\n",
            "𠀀",
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(UNSPACED_TEXT, max_size=4), CONFIGS)
def test_units_of_scripts_without_blanks_match_the_naive_implementation(texts, units_config):
    assert_equals_oracle(texts, units_config)


def test_words_of_every_character_match_the_naive_implementation():
    codes = [*range(1, 0x3400), *range(0x3400, 0xD800, 16), *range(0xE000, 0x32000, 16)]
    text = "".join(f"我a{chr(code)}b\u0301{chr(code)}\u0301我 " for code in codes)
    assert_equals_oracle([text], config(max_words=7, min_words=1))


@pytest.mark.parametrize(
    "text",
    [
        "这部电影非常好看\uff0c演员的表演十分精彩\uff0c情节紧凑而且感人至深。" * 20,
        "ภาพยนตร์เรื่องนี้สนุกมากนักแสดงแสดงได้ดีเยี่ยม" * 20,
        "これは本です。それはペンです。" * 30,
        "ខ្ញុំចូលចិត្តមើលភាពយន្តនៅផ្ទះជាមួយគ្រួសារ។" * 20,
        "ຂ້ອຍມັກເບິ່ງໜັງຢູ່ເຮືອນກັບຄອບຄົວ" * 20,
        "ကျွန်တော်ရုပ်ရှင်ကြည့်ရတာကြိုက်တယ်။" * 20,
    ],
    ids=["Chinese", "Thai", "Japanese", "Khmer", "Lao", "Burmese"],
)
def test_documents_without_blanks_become_units_of_about_as_many_bytes_as_english(text):
    units = [piece for _, piece in units_of(text, config())]
    assert "".join(units) == text
    assert len(units) > 1
    for unit in units[:-1]:
        assert 240 <= len(unit.encode()) <= 700
    stops = [unit.endswith(tuple("。។။")) for unit in units]
    assert all(stops) or not set("。។။") & set(text)


def test_words_of_a_mixed_document_are_counted_equally_everywhere():
    spaced = "one two-three don't 4.5 -- "
    assert [len(piece.split()) for _, piece in units_of(spaced * 3, config(max_words=5))] == [5] * 3
    mixed = spaced + "我们2020年在GPT上"
    # 5, then 我 们 2020 年 在 GPT 上.
    assert [piece for _, piece in units_of(mixed, config(max_words=12))] == [mixed]
    assert len(units_of(mixed, config(max_words=11, min_words=1))) == 2


@pytest.mark.parametrize("policy", ["packed", "sentence", "line"])
def test_units_of_real_text_match_the_naive_implementation(general_text, policy):
    assert_equals_oracle(general_text, config(policy=policy))
    assert_equals_oracle(general_text, config(policy=policy, max_words=30, min_words=8))


@pytest.fixture(scope="module")
def general_text():
    if not GENERAL_TEXT.is_file():
        pytest.skip("the real corpus is not next to this checkout")
    with pq.ParquetFile(GENERAL_TEXT) as file:
        return next(file.iter_batches(4000, columns=["text"])).column(0).to_pylist()


def test_every_unicode_white_space_separates_words():
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    assert len(spaces) == 29
    text = "".join(f"w{space}" for space in spaces)
    assert units_of(text, config())[0] == (0, text.strip())
    others = "".join(chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and c != 10)
    assert_equals_oracle([text, others], config(max_words=5, min_words=1))


@settings(max_examples=300, deadline=None)
@given(TEXT, CONFIGS)
def test_units_are_ordered_parts_of_the_text_and_cover_every_word_once(text, units_config):
    pieces = oracle_units.cut(text, units_config)
    if units_config.policy != "line":
        assert "".join("".join(piece.split()) for _, piece, _ in pieces) == "".join(text.split())
    position = 0
    for offset, piece in units_of(text, units_config):
        assert offset >= position
        assert text[offset : offset + len(piece)] == piece
        position = offset + len(piece)


def test_unit_ids_encode_source_and_position_and_sort_in_text_order():
    assert unit_id(DIGEST, 7, 42) == "0123456789abcdef-000000000007-00000042"
    places = [(0, 0), (0, 9), (0, 10), (9, 0), (10, 0), (10**9, 5), (10**11, 10**7)]
    ids = [unit_id(DIGEST, *place) for place in places]
    assert ids == sorted(ids)


def test_min_words_above_max_words_is_refused():
    with pytest.raises(InputError, match="min_words 8 is above max_words 7"):
        config(min_words=8, max_words=7)
