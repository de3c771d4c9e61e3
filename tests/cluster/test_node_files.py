"""Files of tasks on machines that do not see the disk of the command; see test_private_disks.py."""

import uuid

import pytest
import ray

from raykd.cluster.node_files.copies import present
from raykd.cluster.node_files.server import FileServer, FileState, SharedFolder
from raykd.errors import InputError
from raykd.storage.locations import Remote
from raykd.storage.remote.task_files import TaskFiles, need
from raykd.storage.remote.working_folder import SESSION_FILE, WorkingFolder


def working_folder(folder) -> WorkingFolder:
    return WorkingFolder(Remote("s3", "bucket/run"), folder, uuid.uuid4().hex)


@pytest.mark.ray
def test_a_network_disk_that_shows_an_older_session_is_not_emptied(tmp_path, ray_cluster):
    (tmp_path / SESSION_FILE).write_text("the session of the command before")
    (tmp_path / "hits").write_text("rows")
    shared = SharedFolder(working_folder(tmp_path), ray.remote(FileServer).remote(tmp_path))
    with present(shared, TaskFiles((tmp_path / "hits",), (tmp_path / "out",))):
        assert (tmp_path / "hits").read_text() == "rows"
    assert {path.name for path in tmp_path.iterdir()} == {SESSION_FILE, "hits"}


def test_a_node_that_joins_a_cluster_of_one_is_refused_with_the_remedy(tmp_path):
    with (
        pytest.raises(InputError, match="joined the cluster while .* run the same command again"),
        present(SharedFolder(working_folder(tmp_path), None), TaskFiles()),
    ):
        pass


def test_the_machine_of_the_command_uses_its_own_files(tmp_path):
    folder = working_folder(tmp_path)
    (tmp_path / SESSION_FILE).write_text(folder.session)
    with present(SharedFolder(folder, None), TaskFiles((tmp_path / "absent",))):
        need(tmp_path / "absent")


def test_a_file_appears_only_when_all_its_parts_are_written(tmp_path):
    server = FileServer(tmp_path)
    server.write("units/a.bin", "0123abcd", 3, b"def")
    assert server.states(["units"]) == {}
    server.write("units/a.bin", "0123abcd", 0, b"abc")
    server.complete("units/a.bin", "0123abcd", FileState(6, 1_700_000_000_000_000_000))
    assert server.states(["units"]) == {"units/a.bin": (6, 1_700_000_000_000_000_000)}
    assert server.read("units/a.bin", 2) == b"cdef"
    assert server.missing(["units/a.bin", "units/b.bin"]) == ["units/b.bin"]
    server.remove(["units/a.bin"])
    assert list(tmp_path.iterdir()) == []
