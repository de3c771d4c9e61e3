"""Functions on models: runs, tuning, predictions, students."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, cast, overload

from raykd.api.arguments import StrPath, is_dataset, listed_paths, optional_path
from raykd.errors import InputError

# Heavy imports are inside the functions, so that `import raykd` takes no time.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from raykd.cluster.sources import Dataset


def run(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Run every stage of a recipe, as `raykd run` does.

    Args:
        recipe: YAML file.
        out: run directory or URL; None: runs/NAME.

    Returns:
        The run directory: `results.json`, `report.html`, and the folder `student`.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.stages import run_stages

    with optional_output_at(optional_path(out)) as folder:
        opened = open_run(Path(recipe), folder)
        run_stages(opened, "report")
    return opened.out


def tune(recipe: StrPath, *, out: StrPath | None = None) -> Path:
    """Search for the best settings of a recipe's section `tune`, as `raykd tune` does.

    Args:
        recipe: YAML file.
        out: run directory or URL; None: runs/NAME.

    Returns:
        The run directory, with the trials; `raykd best` shows them.

    Raises:
        InputError: a file or setting is not as it should be.
    """
    from raykd.storage.remote.output import optional_output_at
    from raykd.workflow.run import open_run
    from raykd.workflow.tune.tuning import tune as tune_run

    with optional_output_at(optional_path(out)) as folder:
        opened = open_run(Path(recipe), folder, needs_dev=False)
        tune_run(opened)
    return opened.out


def load_student(folder: StrPath) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a student of a run as a transformers model, in evaluation mode, and its tokenizer.

    Args:
        folder: run directory, or a folder of a model in it; or the URL of one of these.

    Raises:
        InputError: there is no student in it.
    """
    from raykd.models.encoder import load_encoder, load_tokenizer
    from raykd.models.resolve import resolve_model, student_of_run
    from raykd.storage.remote.output import url_of

    url = url_of(str(folder))
    if url is None and not Path(folder).is_dir():
        raise InputError(f"{folder}: no such directory; give a run directory or a model's folder")
    reference = str(resolve_model(student_of_run(url or str(folder))).resolve())
    return load_encoder(reference).model, load_tokenizer(reference)


class PredictSettings(TypedDict, total=False):
    """Settings of `predict`."""

    text_columns: Sequence[str]
    threshold: float | None
    precision: float | None
    calibrated: bool
    with_embeddings: bool
    max_length: int | None
    prefix: str
    device: Literal["auto", "cpu", "gpu"]


@overload
def predict(
    data: "Dataset", model: StrPath, out: None = None, **settings: Unpack[PredictSettings]
) -> "Dataset": ...


@overload
def predict(
    data: StrPath | Sequence[StrPath],
    model: StrPath,
    out: StrPath,
    **settings: Unpack[PredictSettings],
) -> Path: ...


def predict(
    data: "StrPath | Sequence[StrPath] | Dataset",
    model: StrPath,
    out: StrPath | None = None,
    *,
    text_columns: Sequence[str] = ("text",),
    threshold: float | None = None,
    precision: float | None = None,
    calibrated: bool = True,
    with_embeddings: bool = False,
    max_length: int | None = None,
    prefix: str = "",
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> "Path | Dataset":
    """Predict rows with a trained classifier, as `raykd predict` does.

    Args:
        data: files, folders or URLs of Parquet, JSONL, CSV, TSV or text; or a dataset of Ray Data.
        model: run directory, folder of a model, or the URL of one of these; package:NAME/FOLDER;
            or hub name.
        out: directory or URL to write, for files.
        text_columns: the column of the text, or the two of a pair.
        threshold: adds the column is_uncertain, true for predictions with a smaller probability.
        precision: instead of a threshold: that above which this share of the dev rows of the
            student's run was predicted right.
        calibrated: whether probabilities have the temperature of the student's calibration.
        with_embeddings: whether to add the column embedding, the mean of the last layer's vectors.
        max_length: tokens per row; None: as trained, at most 512.
        prefix: beginning of the names of the added columns.
        device: auto computes on GPUs if the cluster has any.

    Returns:
        The directory of the predicted rows, `part-00000.parquet` and so on. For a dataset, the
        dataset with the added columns, which are computed when it is read.

    Raises:
        InputError: a file, the model or a setting is not as it should be.
    """
    from raykd.prediction.config import PredictConfig
    from raykd.prediction.pipeline import predict_dataset, predict_files
    from raykd.storage.locations import location_of
    from raykd.storage.remote.output import output_at

    config = PredictConfig(
        text_columns=tuple(text_columns),
        threshold=threshold,
        precision=precision,
        calibrated=calibrated,
        with_embeddings=with_embeddings,
        max_length=max_length,
        prefix=prefix,
    )
    if is_dataset(data):
        if out is not None:
            raise InputError(
                "raykd.predict: a dataset has no out; write the result with its write_parquet"
            )
        return predict_dataset(str(model), cast("Dataset", data), config, device=device)
    if out is None:
        raise InputError("raykd.predict: files are predicted into a directory; give out")
    paths = [location_of(path) for path in listed_paths(cast("StrPath | Sequence[StrPath]", data))]
    with output_at(Path(out)) as folder:
        predict_files(str(model), paths, folder, config, device=device)
    return folder
