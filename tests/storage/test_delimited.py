"""CSV and TSV: an unreadable row does not affect others; quotes are recognized."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.corpus.read import read_slice
from raykd.corpus.rows import BadRow, Columns, Document, EmptyRow, QuotesNote
from raykd.corpus.slices import Slice
from raykd.corpus.texts import read_texts
from raykd.errors import InputError
from raykd.storage.delimited import Layout, looks_like_data, parse
from raykd.storage.tables import read_table


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path, columns=Columns()):  # noqa: B008  # frozen
    return list(read_slice(Slice(path, 0, None, 0), columns))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_ragged_and_a_latin_row_are_bad_and_the_others_are_documents(tmp_path, suffix):
    lines = [b"unit_id,text", b"1,one", b"2,two,more", b"3,caf\xe9", b"4,four", b"5, "]
    content = b"\n".join(lines).replace(b",", b"," if suffix == ".csv" else b"\t")
    path = write(tmp_path / f"a{suffix}", content)
    assert rows_of(path) == [
        Document(str(path), 0, "one", 1),
        BadRow(str(path), 1, "3 fields where the first line names 2 columns (line 3)"),
        BadRow(
            str(path),
            2,
            "not UTF-8 at character 3 of field 2; convert the file to UTF-8 (line 4)",
        ),
        Document(str(path), 3, "four", 4),
        EmptyRow(str(path), 4),
    ]


def test_a_stray_quotation_mark_affects_only_its_line(tmp_path):
    lines = ["n,text", "1,good", '2,"open', "3,good", '4,"x"y', '5,"a ""b"', "6,good", '7,"end']
    rows = rows_of(write(tmp_path / "a.csv", "\n".join(lines)))
    assert [row.text for row in rows if isinstance(row, Document)] == [
        "good",
        "good",
        'a "b',
        "good",
    ]
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    assert len(reasons) == 3
    assert reasons[-1] == "not CSV (a quotation mark is opened and never closed) (line 8)"


def test_quoted_fields_may_have_line_breaks(tmp_path):
    path = write(tmp_path / "a.csv", 'text,n\n"a\nb",1\nc,2\n')
    assert [row.text for row in rows_of(path)] == ["a\nb", "c"]


def test_an_unreadable_row_of_a_table_is_reported_with_its_line(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabel\nx\t0\n\ny\n")
    with pytest.raises(
        InputError, match=r"line 4: 1 field where the first line names 2 columns; c"
    ):
        read_table(path, ["text"])


def test_files_without_a_header_line_use_the_configured_names(tmp_path):
    path = write(tmp_path / "a.tsv", "7\tsome text\n8\tmore text\n")
    layout = Layout(("doc_id", "text"))
    assert rows_of(path, Columns(layout=layout)) == [
        Document(str(path), 0, "some text", 7),
        Document(str(path), 1, "more text", 8),
    ]
    table = read_table(path, ["text", "doc_id"], text_columns=["text"], layout=layout)
    assert table.to_pydict() == {"text": ["some text", "more text"], "doc_id": [7, 8]}
    with pytest.raises(InputError, match="line 1: 2 fields where 1 column is named"):
        read_table(path, ["text"], layout=Layout(("text",)))
    with pytest.raises(InputError, match="its first line names the columns already"):
        read_table(write(tmp_path / "b.csv", "a,b\n1,2\n"), layout=Layout(("a", "b")))


@pytest.mark.parametrize(
    ("first", "is_data"),
    [
        ("gj04,1,*,The film was good", True),
        ("3,Wall St. Bears Claw Back Into the Black", True),
        ("1048585,what is number3", True),
        ("v1,v2,,,", False),
        (",text,label", False),
        ("idx,sentence1,sentence2,label", False),
    ],
)
def test_a_first_line_that_looks_like_data_is_detected(tmp_path, first, is_data):
    assert looks_like_data(first.split(",")) == is_data
    path = write(tmp_path / "a.csv", f"{first}\n")
    words = "looks like data .* no header line; name its columns with" if is_data else "no column"
    with pytest.raises(InputError, match=words):
        read_table(path, ["other"])
    with pytest.raises(InputError, match=words):
        rows_of(path, Columns("other"))


def test_only_the_columns_that_are_read_need_a_name_of_their_own(tmp_path):
    path = write(tmp_path / "spam.csv", "v1,v2,,,\nham,hello,,,\nspam,win,,,\n")
    assert read_table(path, ["v2", "v1"]).to_pydict() == {
        "v2": ["hello", "win"],
        "v1": ["ham", "spam"],
    }
    assert [row.text for row in rows_of(path, Columns("v2"))] == ["hello", "win"]
    with pytest.raises(InputError, match="the column '' appears twice"):
        read_table(path, [""])


GLUE = 'text\tlabel\n"Open, he said\t1\nA "quoted" word\t0\n"All of it."\t1\n'


def test_quotation_marks_of_glue_are_text_and_those_of_pandas_are_not(tmp_path, capsys):
    glue = write(tmp_path / "glue.tsv", GLUE)
    assert read_table(glue)["text"].to_pylist() == [
        '"Open, he said',
        'A "quoted" word',
        '"All of it."',
    ]
    assert "glue.tsv: quotation marks are kept as text" in capsys.readouterr().err
    pandas = write(tmp_path / "pandas.tsv", 'text\tlabel\n"he said ""yes"""\t1\nplain\t0\n')
    assert read_table(pandas)["text"].to_pylist() == ['he said "yes"', "plain"]
    assert "pandas.tsv: quotation marks enclose fields" in capsys.readouterr().err
    layout = Layout(quoting="none")
    assert read_table(pandas, layout=layout)["text"].to_pylist()[0] == '"he said ""yes"""'
    all_quoted = write(tmp_path / "r.tsv", '"text"\t"n"\n"a b"\t1\n"c"\t2\n')
    assert read_table(all_quoted).to_pydict() == {"text": ["a b", "c"], "n": [1, 2]}


@pytest.mark.parametrize(
    ("name", "sign", "words"),
    [("a.csv", ";", "semicolons"), ("a.csv", "\t", "tabs"), ("a.tsv", ",", "commas")],
)
def test_a_file_with_another_delimiter_is_reported_as_such(tmp_path, name, sign, words):
    path = write(tmp_path / name, sign.join(["text", "label"]) + "\n" + sign.join("ab") + "\n")
    message = f"{name}: its first line is a single column, .* to be separated by {words}"
    with pytest.raises(InputError, match=message):
        read_table(path, ["text"])
    with pytest.raises(InputError, match=message):
        rows_of(path)


def test_lines_that_end_in_carriage_returns_alone_are_lines(tmp_path):
    for suffix, sign in (("csv", ","), ("tsv", "\t")):
        lines = [sign.join(["text", "n"]), sign.join(["one", "1"]), sign.join(["two", "2"])]
        path = write(tmp_path / f"a.{suffix}", "\r".join(lines) + "\r")
        assert read_table(path).to_pydict() == {"text": ["one", "two"], "n": [1, 2]}


CELLS = st.text(st.sampled_from('ab"\t\n,1 é'), max_size=6)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_output_of_a_quoting_writer_is_read_back(tmp_path_factory, rows, quoting):
    rows = [("text", "n"), *((f"x{a}", f'"{b}') for a, b in rows)]
    for format_, delimiter in (("tsv", "\t"), ("csv", ",")):
        file = io.StringIO()
        csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
        found = parse(tmp_path_factory.getbasetemp(), file.getvalue().encode(), format_, Layout())
        assert [tuple(found.names), *(tuple(row.fields) for row in found.rows)] == rows


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")),
        max_size=12,
    ),
    format_=st.sampled_from(["csv", "tsv"]),
)
def test_kept_bad_and_empty_rows_add_up(tmp_path_factory, lines, format_):
    path = write(tmp_path_factory.mktemp("d") / f"a.{format_}", b"\n".join([b"text", *lines]))
    rows = [row for row in rows_of(path) if not isinstance(row, QuotesNote)]
    if format_ == "tsv" or not any(b'"' in line for line in lines):
        assert len(rows) == sum(line != b"" for line in lines)
    assert [row.offset for row in rows] == list(range(len(rows)))
    [texts] = read_texts(Slice(path, 0, None, 0), Columns(ids=(), title=None))
    kinds = [sum(isinstance(row, kind) for row in rows) for kind in (Document, BadRow, EmptyRow)]
    assert kinds == [len(texts.offsets), len(texts.bad), len(texts.empty)]
