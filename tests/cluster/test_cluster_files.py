"""Checks of the cluster files without a cloud: valid, safe by default, and free of secrets."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from ray.autoscaler._private.util import prepare_config, validate_config

from raykd.cluster.capacity import POOL_LABEL
from raykd.workflow.recipe.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
AWS = ROOT / "cluster.yaml"
GCP = ROOT / "experiments/cluster/gcp.yaml"
KUBERAY = ROOT / "experiments/cluster/kuberay-rayjob.yaml"
SLURM = ROOT / "experiments/cluster/slurm.sh"
LAUNCHED = [AWS, GCP]
POOLS = {
    "head": "head",
    "cpu-spot": "cpu",
    "cpu-on-demand": "cpu",
    "gpu-spot": "gpu",
    "gpu-on-demand": "gpu",
}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ebs(Strict):
    VolumeSize: Annotated[int, Field(ge=50)]
    VolumeType: Literal["gp3"]
    Encrypted: Literal[True]
    DeleteOnTermination: Literal[True]


class BlockDevice(Strict):
    DeviceName: Literal["/dev/sda1"]
    Ebs: Ebs


class Metadata(Strict):
    """Version 2 of the metadata service: a request needs a session token."""

    HttpTokens: Literal["required"]
    HttpEndpoint: Literal["enabled"]


class Profile(Strict):
    Name: Annotated[str, Field(pattern=r"^[\w+=,.@-]+$")]


class Market(Strict):
    MarketType: Literal["spot"]


class AwsNode(Strict):
    InstanceType: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]+\.[a-z0-9]+$")]
    ImageId: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{17}$")]
    IamInstanceProfile: Profile
    MetadataOptions: Metadata
    BlockDeviceMappings: Annotated[list[BlockDevice], Field(min_length=1)]
    InstanceMarketOptions: Market | None = None


class Google(Strict):
    model_config = ConfigDict(alias_generator=to_camel)


class DiskParameters(Google):
    disk_size_gb: Annotated[int, Field(ge=50)]
    source_image: Annotated[str, Field(pattern=r"^projects/[\w-]+/global/images/family/[\w-]+$")]


class Disk(Google):
    boot: Literal[True]
    auto_delete: Literal[True]
    type: Literal["PERSISTENT"]
    initialize_params: DiskParameters


class Account(Google):
    email: Annotated[str, Field(pattern=r"^[^@]+@[\w-]+\.iam\.gserviceaccount\.com$")]
    scopes: list[str]


class Scheduling(Google):
    preemptible: Literal[True] | None = None
    on_host_maintenance: Literal["TERMINATE"] | None = None


class Shield(Google):
    enable_secure_boot: Literal[True]
    enable_vtpm: Literal[True]


class GcpNode(Google):
    machine_type: Annotated[str, Field(pattern=r"^[a-z0-9]+-[a-z]+-[0-9]+$")]
    disks: Annotated[list[Disk], Field(min_length=1)]
    service_accounts: Annotated[list[Account], Field(min_length=1)]
    shielded_instance_config: Shield | None = None
    scheduling: list[Scheduling] = []


def settings(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def types_of(path: Path) -> dict[str, Any]:
    return settings(path)["available_node_types"]


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_rays_launcher_accepts_the_file(path):
    validate_config(prepare_config(settings(path)))


@pytest.mark.parametrize(("path", "model"), [(AWS, AwsNode), (GCP, GcpNode)], ids=["aws", "gcp"])
def test_nodes_are_described_as_the_cloud_expects(path, model):
    for node in types_of(path).values():
        model.model_validate(node["node_config"], strict=True)


def is_spot(path: Path, node: dict[str, Any]) -> bool:
    config = node["node_config"]
    if path == AWS:
        return "InstanceMarketOptions" in config
    return any(one.get("preemptible") for one in config.get("scheduling", []))


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_the_head_runs_no_tasks_and_on_demand_workers_replace_missing_spot_ones(path):
    types = types_of(path)
    assert settings(path)["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert not is_spot(path, types["head"])
    for pool in ("cpu", "gpu"):
        spot, fallback = types[f"{pool}-spot"], types[f"{pool}-on-demand"]
        assert is_spot(path, spot)
        assert not is_spot(path, fallback)
        # Ray starts the type of the higher priority first.
        assert spot["priority"] > fallback["priority"]
        assert spot["resources"] == fallback["resources"]
        assert spot["min_workers"] == fallback["min_workers"] == 0
        assert spot["max_workers"] <= settings(path)["max_workers"]


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_nodes_have_the_labels_by_which_work_without_a_gpu_keeps_off_gpu_nodes(path):
    labels = {name: node["labels"] for name, node in types_of(path).items()}
    assert labels == {name: {POOL_LABEL: pool} for name, pool in POOLS.items()}
    for name, node in types_of(path).items():
        assert ("GPU" in node["resources"]) == name.startswith("gpu")


def test_spot_nodes_may_start_in_several_zones_of_the_region():
    provider = settings(AWS)["provider"]
    zones = provider["availability_zone"].split(",")
    assert len(zones) == 3
    assert all(zone.startswith(provider["region"]) for zone in zones)


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_dashboard_and_job_api_listen_on_loopback_and_every_node_requires_a_token(path):
    head, workers = (
        [command for command in settings(path)[key] if "ray start" in command]
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
    )
    assert len(head) == len(workers) == 1
    assert "--dashboard-host=127.0.0.1" in head[0]
    for command in (*head, *workers):
        assert command.startswith("RAY_AUTH_MODE=token ray start ")
    mounts = settings(path)["file_mounts"]
    assert mounts["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_objects_are_spilled_to_the_nvme_disk_that_the_container_sees():
    values = settings(AWS)
    starts = values["head_start_ray_commands"][1], values["worker_start_ray_commands"][1]
    assert all("--object-spilling-directory=/mnt/nvme" in command for command in starts)
    assert "--volume=/mnt/nvme:/mnt/nvme" in values["docker"]["run_options"]
    for command in values["initialization_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_images_have_the_tested_ray_and_a_supported_python_and_torch_is_the_tested_one(path):
    values = settings(path)
    [ray] = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    images = {values["docker"]["head_image"], values["docker"]["worker_image"]}
    images |= {node["docker"]["worker_image"] for node in values_with_docker(path)}
    for image in images:
        match = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-(cpu|gpu)", image)
        assert match
        assert Version(match[1]) == Version(ray)
        assert int(match[2]) >= 11
    assert values["docker"]["worker_image"].endswith("-gpu")
    assert all(node["docker"]["worker_image"].endswith("-cpu") for node in values_with_docker(path))
    setups = [values["head_setup_commands"], values["worker_setup_commands"]]
    setups += [node["worker_setup_commands"] for node in values_with_docker(path)]
    for command in (command for setup in setups for command in setup):
        if "torch" in command or "raykd-*" in command:
            assert "-c /home/ray/raykd/constraints.txt" in command


def values_with_docker(path: Path) -> list[dict[str, Any]]:
    """Node types with an image of their own: those without a GPU."""
    found = {name: node for name, node in types_of(path).items() if "docker" in node}
    assert set(found) == {"cpu-spot", "cpu-on-demand"}
    return list(found.values())


@pytest.mark.parametrize("path", [AWS, GCP, KUBERAY, SLURM], ids=lambda path: path.name)
def test_the_file_contains_no_secret(path):
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|AIza[\w-]{35}|hf_\w{30}", text)
    assert not re.search(
        r"(?i)(secret|password|access_key|token)\w*[\"']?\s*[:=]\s*[\"']?\w{16}", text
    )


def test_the_kubernetes_job_requires_a_token_and_labels_its_pools():
    job, config = yaml.safe_load_all(KUBERAY.read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert cluster["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    head, (cpu, gpu) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    groups = {"head": head, "cpu": cpu, "gpu": gpu}
    assert {name: group["labels"] for name, group in groups.items()} == {
        name: {POOL_LABEL: name} for name in groups
    }
    for name, group in groups.items():
        [container] = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert container["resources"]["requests"] == limits
        assert ("nvidia.com/gpu" in limits) == (name == "gpu")
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    volume = head["template"]["spec"]["volumes"][0]["configMap"]["name"]
    assert volume == config["metadata"]["name"]
    assert job["spec"]["entrypoint"].startswith(
        "python -m raykd run /home/ray/recipe/recipe.yaml --out s3://"
    )
    Recipe.parse(yaml.safe_load(config["data"]["recipe.yaml"]), "recipe")


def test_the_slurm_script_starts_ray_with_a_token_on_all_nodes(tmp_path):
    for name, body in {
        "scontrol": "printf 'node1\\nnode2\\n'",
        "srun": 'case "$*" in *hostname*) echo "10.0.0.1 10.1.0.1";; '
        '*) printf "%s\\n" "$RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}" "$@";; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/activate").touch()
    slurm = {"JOB_NODELIST": "node[1-2]", "JOB_ID": "40123", "NNODES": "2", "CPUS_PER_TASK": "16"}
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RAYKD_ENVIRONMENT": str(tmp_path),
        **{f"SLURM_{name}": value for name, value in slurm.items()},
    }
    words = ["bash", str(SLURM), "my recipe.yaml", "s3://bucket/run"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    expected = ["token 64", "--nodes=2", "--ntasks=2", "ray", "symmetric-run"]
    expected += ["--address", "10.0.0.1:20123", "--min-nodes", "2"]
    expected += ["--num-cpus=16", "--num-gpus=0"]
    expected += ["--", "python", "-m", "raykd", "run", "my recipe.yaml"]
    assert done.stdout.splitlines() == [*expected, "--out", "s3://bucket/run"]
    assert subprocess.run(words[:2], env=environment, capture_output=True).returncode != 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_no_remark_on_the_slurm_script():
    subprocess.run(["shellcheck", str(SLURM)], check=True)
