"""Validation rows of a search, and rows that are held out from it."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from raykd.errors import InputError
from raykd.storage.manifest import Draft, digest_of_file, write_once
from raykd.workflow.tune.trial.setting import Setting

_SENTENCES = ("sentence1", "sentence2")
SEARCH_ROWS = "search.parquet"
HELD_OUT_ROWS = "held_out.parquet"
_FOLDER = "rows"


def with_search_rows(setting: Setting) -> Setting:
    """The setting with the rows that the search scores on; they are written unless present.

    Raises:
        InputError: no row would be held out, or every row.
    """
    config = setting.run.recipe.tune
    if config is None or config.confirm is None or config.confirm.held_out == 0:
        return setting
    folder = setting.folder / _FOLDER
    split_rows(setting.run.split("dev"), config.confirm.held_out, folder)
    return replace(setting, run=replace(setting.run, validation=folder / SEARCH_ROWS))


def held_out_rows(setting: Setting) -> Path:
    """The rows that `with_search_rows` held out."""
    return setting.folder / _FOLDER / HELD_OUT_ROWS


def split_rows(examples: Path, fraction: float, out: Path) -> None:
    """Split examples by the hash of their sentences, so that equal rows are in the same part.

    Args:
        examples: file of examples.
        fraction: share of the held-out rows.
        out: folder of the two files.

    Raises:
        InputError: one of the parts would be empty.
    """

    def write(draft: Draft) -> None:
        table = pq.read_table(examples)
        keys = zip(*(table[name].to_pylist() for name in _SENTENCES), strict=True)
        # Another hash than that of `hold_out`, which may have selected these rows.
        held_out = [
            xxhash.xxh3_64_intdigest(json.dumps(key).encode(), seed=1) < fraction * 2.0**64
            for key in keys
        ]
        if not 0 < sum(held_out) < len(held_out):
            raise InputError(
                f"tune.confirm.held_out {fraction:g}: takes {sum(held_out)} of {len(held_out)} "
                "validation rows; set another share, or 0"
            )
        mask = pa.array(held_out, pa.bool_())
        pq.write_table(table.filter(pc.invert(mask)), draft.directory / SEARCH_ROWS)
        pq.write_table(table.filter(mask), draft.directory / HELD_OUT_ROWS)
        draft.counts["num_held_out"] = sum(held_out)

    inputs = {"examples": digest_of_file(examples)}
    write_once(out, "search_rows", {"fraction": fraction}, inputs, write)
