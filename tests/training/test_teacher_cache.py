"""Cache of teacher outputs on a text: parts, and their concatenation."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import save_tiny_model

from raykd.errors import InputError
from raykd.models.encoder import load_encoder, load_tokenizer
from raykd.models.inference import answers_of
from raykd.models.tokenization.tokens import read_rows
from raykd.training.teacher_cache import OutputsJob, parts_of, read_outputs, relations_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("num_rows", "num_parts"),
    [(0, 0), (1, 1), (1024, 1), (1025, 2), (32_768, 32), (100_000, 32), (1_000_000, 62)],
)
def test_parts_cover_all_rows_and_grow_with_their_number(num_rows, num_parts):
    parts = parts_of(num_rows)

    assert len(parts) == num_parts
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(num_rows))
    assert all(stop - start <= 16_384 for start, stop in parts)


@pytest.fixture
def job(tmp_path) -> OutputsJob:
    """Job with two parts: of 1,024 rows and of one row."""
    words = ["the film was good", "a dull and awful story", "great music"]
    texts = [words[row % 3] for row in range(1024)] + ["the plot"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "text.parquet")
    return OutputsJob(
        teacher=save_tiny_model(tmp_path / "teacher", num_layers=2),
        text=tmp_path / "text.parquet",
        out=tmp_path / "out",
        max_length=24,
        pooling="mean",
        inputs={"teacher": "digest", "text": "digest"},
        relation_layer=-1,
    )


def modified(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_completed_parts_are_skipped_and_all_parts_equal_a_single_pass(job, tmp_path):
    (first, second) = job.parts()
    job.write_part(*first, CPU)
    (part,) = (tmp_path / "out.unfinished").iterdir()
    before = modified(part)

    for start, stop in (first, second):
        job.write_part(start, stop, CPU)
    assert modified(part) == before
    assert job.finished() is None
    job.join_parts()

    assert job.finished() is not None
    assert not (tmp_path / "out.unfinished").exists()
    teacher, tokenizer = load_encoder(str(job.teacher)), load_tokenizer(str(job.teacher))
    rows = read_rows(job.text, tokenizer, max_length=24)
    answers = answers_of(teacher, rows, pad_id=0, device=CPU, pooling="mean")
    assert answers.features is not None
    assert answers.features.shape == (1025, 2, teacher.hidden_size)
    np.testing.assert_allclose(read_outputs(job.out, "logits"), answers.logits, atol=1e-5)
    np.testing.assert_allclose(read_outputs(job.out, "features"), answers.features, atol=1e-5)
    relations = read_outputs(job.out, relations_of(-1))
    assert relations.shape == (len(rows.input_ids), 3, teacher.hidden_size)
    for row in (0, 1, 1024):
        start, stop = rows.offsets[row : row + 2]
        ids = torch.tensor(rows.input_ids[None, start:stop], dtype=torch.int64)
        with torch.no_grad():
            expected = torch.stack(teacher.eval().relations(ids, None, layer=2), 2)[0]
        np.testing.assert_allclose(relations[start:stop], expected, rtol=1e-3, atol=1e-4)


def test_outputs_that_were_not_requested_are_reported_by_name(job):
    for start, stop in job.parts():
        replace(job, relation_layer=1).write_part(start, stop, CPU)
    replace(job, relation_layer=1).join_parts()

    assert read_outputs(job.out, relations_of(1)).dtype == np.float16
    with pytest.raises(InputError, match=r"relations-2 are not in its cache.*cached_teacher: fal"):
        read_outputs(job.out, relations_of(2))


def test_parts_of_another_teacher_are_not_reused(job, tmp_path):
    first, _ = job.parts()
    job.write_part(*first, CPU)
    (part,) = (tmp_path / "out.unfinished").iterdir()
    before = modified(part)

    replace(job, inputs={"teacher": "another", "text": "digest"}).write_part(*first, CPU)

    assert modified(part) != before


def test_an_empty_text_is_refused(job):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), job.text)

    with pytest.raises(InputError, match=r"text\.parquet: no rows to train on"):
        job.parts()


def test_outputs_are_memory_mapped(job):
    for start, stop in job.parts():
        job.write_part(start, stop, CPU)
    job.join_parts()

    assert isinstance(read_outputs(job.out, "features"), np.memmap)


def test_outputs_are_written_without_system_support_for_preallocation(job, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")
    for start, stop in job.parts():
        job.write_part(start, stop, CPU)
    job.join_parts()

    assert read_outputs(job.out, "logits").shape == (1025, 2)
    assert np.isfinite(read_outputs(job.out, relations_of(-1))).all()


def test_a_full_disk_is_an_error_before_memory_mapping(job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root on Linux only")
    try:
        with pytest.raises(OSError, match="No space left"):
            replace(job, out=disk / "out").write_part(0, 1024, CPU)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
