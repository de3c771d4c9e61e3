"""The Python API: its names and signatures, and what importing it costs."""

import inspect
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from tiny_models import save_tiny_model

import raykd
from raykd.errors import InputError

SIGNATURES = {
    "contextualize": "(recipe: StrPath, *, out: StrPath | None = None, "
    "corpus: 'Dataset | None' = None) -> 'dict[str, Path] | dict[str, Dataset]'",
    "dedup": "(corpus: 'StrPath | Sequence[StrPath] | Dataset', out: StrPath, *, "
    "near_duplicates: dict[str, Any] | None = None) -> 'Path | Dataset'",
    "load_student": "(folder: StrPath) -> 'tuple[PreTrainedModel, PreTrainedTokenizerBase]'",
    "predict": "(data: 'StrPath | Sequence[StrPath] | Dataset', model: StrPath, "
    "out: StrPath | None = None, *, text_columns: Sequence[str] = ('text',), "
    "threshold: float | None = None, precision: float | None = None, calibrated: bool = True, "
    "with_embeddings: bool = False, "
    "max_length: int | None = None, prefix: str = '', "
    "device: Literal['auto', 'cpu', 'gpu'] = 'auto') -> 'Path | Dataset'",
    "run": "(recipe: StrPath, *, out: StrPath | None = None) -> Path",
    "search": "(corpus: 'StrPath | Sequence[StrPath] | Dataset', queries: 'StrPath | Dataset', "
    "out: StrPath, *, "
    "top_k: int = 10, ranker: Literal['bm25', 'dense', 'hybrid'] = 'bm25', "
    "keywords: Optional[Literal['none', 'rake']] = None, bm25: dict[str, Any] | None = None, "
    "analyzer: dict[str, Any] | None = None, dense: dict[str, Any] | None = None, "
    "fusion: dict[str, Any] | None = None, embeddings: StrPath | None = None, "
    "keep: StrPath | None = None, "
    "shard_bytes: int | None = None) -> 'Path | Dataset'",
    "tune": "(recipe: StrPath, *, out: StrPath | None = None) -> Path",
}


def shown_signature(name: str) -> str:
    """A signature with the short names of its types."""
    text = str(inspect.signature(getattr(raykd, name)))
    for long, short in (
        ("str | os.PathLike[str]", "StrPath"),
        ("collections.abc.Sequence[", "Sequence["),
        ("pathlib.Path", "Path"),
        ("typing.", ""),
    ):
        text = text.replace(long, short)
    return text


def test_the_public_names_and_signatures_are_these():
    assert sorted(raykd.__all__) == sorted(SIGNATURES)
    assert {name: shown_signature(name) for name in SIGNATURES} == SIGNATURES


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_function_documents_all_its_arguments(name):
    function = getattr(raykd, name)
    text = inspect.getdoc(function) or ""
    for argument in inspect.signature(function).parameters:
        assert f"    {argument}: " in text


def test_importing_raykd_imports_no_library():
    code = (
        "import sys; before = set(sys.modules); import raykd; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"raykd", *sys.stdlib_module_names}


def test_functions_stay_functions_when_folders_of_their_names_are_imported():
    from raykd.contextualize import select
    from raykd.dedup import exact

    assert (exact.__name__, select.__name__) == ("raykd.dedup.exact", "raykd.contextualize.select")
    assert inspect.isfunction(raykd.dedup)
    assert inspect.isfunction(raykd.contextualize)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = raykd.serach


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_search_and_dedup_write_what_their_commands_write(tmp_path):
    corpus, queries = tmp_path / "corpus.csv", tmp_path / "queries.csv"
    corpus.write_text("doc_id,text\na,rain in the north\nb,bank rate cut\nc,Rain in the north\n")
    queries.write_text("query_id,text\nq,rain\n")
    hits = pq.read_table(raykd.search(corpus, queries, tmp_path / "found", top_k=1))
    assert hits.column("unit_id").to_pylist() == ["a"]
    units = pa.concat_tables(
        pq.read_table(file)
        for file in sorted(raykd.dedup([corpus], tmp_path / "kept").glob("*.parquet"))
    )
    assert units.column("unit_id").to_pylist() == ["a", "b"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_datasets_of_ray_data_give_the_hits_and_units_of_files_as_datasets(tmp_path):
    rows = pa.table({"doc_id": ["a", "b", "c"], "text": ["rain north", "bank rate", "Rain north"]})
    queries = pa.table({"query_id": ["q", "p"], "text": ["rain", "bank"]})
    pq.write_table(rows, tmp_path / "corpus.parquet")
    pq.write_table(queries.sort_by("query_id"), tmp_path / "queries.parquet")
    files = (tmp_path / "corpus.parquet", tmp_path / "queries.parquet")
    expected = pq.read_table(raykd.search(*files, tmp_path / "expected", top_k=2))

    dataset = ray.data.from_arrow([rows.slice(2, 1), rows.slice(0, 2)])
    hits = raykd.search(dataset, ray.data.from_arrow(queries), tmp_path / "found", top_k=2)
    assert pa.Table.from_pylist(hits.take_all(), expected.schema) == expected
    assert sorted(row["unit_id"] for row in raykd.dedup(dataset, tmp_path / "kept").take_all()) == [
        "a",
        "b",
    ]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_dataset_is_the_corpus_of_several_tasks(tmp_path):
    sentences = [f"flood number {number} in the north" for number in range(20)]
    pq.write_table(
        pa.table({"sentence": sentences, "label": [0, 1] * 10}), tmp_path / "train.parquet"
    )
    (tmp_path / "recipe.yaml").write_text(
        "name: two\ntasks:\n- task: {name: floods, train: train.parquet, dev: train.parquet,\n    "
        "sentence_columns: [sentence], label_column: label}\n"
        "corpus: {paths: [unused], text_column: body, units: {policy: line}}\n"
        "retrieval: {top_k: 2}\n"
    )
    texts = [f"A flood of number {number} came from the north." for number in range(30)]
    corpus = ray.data.from_items([{"body": text} for text in texts])
    made = raykd.contextualize(tmp_path / "recipe.yaml", out=tmp_path / "out", corpus=corpus)
    found = [row["text"] for row in made["floods"].take_all()]
    assert found
    assert set(found) <= set(texts)


def test_wrong_settings_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match=r"raykd.search: .*k2"):
        raykd.search("nowhere", "nothing", tmp_path / "out", bm25={"k2": 1})
    for settings, key in (
        ({"ranker": "dense", "keywords": "rake", "dense": {"model": "m"}}, "keywords"),
        ({"dense": {"model": "m"}}, "dense"),
        ({"embeddings": tmp_path}, "embeddings"),
    ):
        with pytest.raises(InputError, match=rf"raykd.search: .*{key}"):
            raykd.search("nowhere", "nothing", tmp_path / "out", **settings)
    with pytest.raises(InputError, match=r"raykd.dedup: .*treshold"):
        raykd.dedup("nowhere", tmp_path / "out", near_duplicates={"treshold": 1})


def test_a_student_is_a_transformers_model_with_its_tokenizer(tmp_path):
    save_tiny_model(tmp_path / "run" / "student")
    model, tokenizer = raykd.load_student(tmp_path / "run")
    assert not model.training
    assert model(**tokenizer(["good film"], return_tensors="pt")).logits.shape == (1, 2)
    with pytest.raises(InputError, match="no such directory"):
        raykd.load_student(tmp_path / "nowhere")
