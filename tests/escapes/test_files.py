"""The file system: only what belongs to the function can be seen, and only /tmp can be written."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from daemons import zip_of

READ_ONLY = {"EROFS"}
NOT_OURS = {"EACCES", "EROFS"}
"""What opening for writing answers: the kernel looks at the file's owner before it looks at the mount."""


def test_system_folders_are_read_only(world):
    errors = world.attempt("write_to_system_folders")["refused"]
    assert {"/", "/usr", "/usr/bin", "/etc", "/dev", "/var", "/var/task"} <= errors.keys()
    assert set(errors.values()) == READ_ONLY


def test_only_tmp_is_writable(world):
    assert world.attempt("write_where_it_does_not_belong") == {"contained": {"writable": []}}


def test_code_cannot_be_changed_in_any_way(world):
    errors = world.attempt("change_own_code")["refused"]
    link, rename = errors.pop("hard link"), errors.pop("rename")
    assert {errors.pop("open"), errors.pop("append")} <= NOT_OURS
    assert set(errors.values()) == READ_ONLY
    assert {link, rename} <= {"EXDEV", "EROFS", "EPERM"}


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_cannot_be_changed_in_any_way(world, layers):
    """One layer is mounted as it is, several as a tree of hard links."""
    arns = []
    for number in range(layers):
        content = {"ZipFile": zip_of({"python/deps.py": "", f"python/own{number}.py": ""})}
        answer = world.client.publish_layer_version(LayerName=f"layer-{number}", Content=content)
        arns.append(answer["LayerVersionArn"])
    function = world.create(Layers=arns)
    verdict = world.attempt("change_own_code", function, root="/opt/python", file="/opt/python/deps.py")
    errors = verdict["refused"]
    link, rename = errors.pop("hard link"), errors.pop("rename")
    assert {errors.pop("open"), errors.pop("append")} <= NOT_OURS
    assert set(errors.values()) == READ_ONLY
    assert {link, rename} <= {"EXDEV", "EROFS", "EPERM"}
    assert set(world.attempt("write_to_system_folders", function)["refused"].values()) == READ_ONLY
    assert set(world.attempt("remount_writable", function)["refused"].values()) == {"EPERM"}


def test_the_interpreter_cannot_be_overwritten(world):
    errors = world.attempt("overwrite_the_interpreter")["refused"]
    assert errors.pop("/proc/self/exe") in {"EACCES", "EROFS", "ETXTBSY"}
    assert len(errors) == 3
    assert set(errors.values()) <= NOT_OURS


def test_system_files_cannot_be_mapped_for_writing(world):
    assert world.attempt("map_system_files_writable") == {"refused": "EACCES"}


def test_read_only_mounts_cannot_be_made_writable(world):
    assert set(world.attempt("remount_writable")["refused"].values()) == {"EPERM"}


def test_secrets_of_the_host_are_not_there(world):
    errors = world.attempt("read_hidden_places")["refused"]
    assert len(errors) > 25
    assert errors.pop("/etc/ssl/private") in {"ENOENT", "EACCES"}
    assert {path for path, error in errors.items() if error == "empty"} <= {"/mnt", "/run", "/var/tmp"}
    assert set(errors.values()) <= {"ENOENT", "empty"}


def test_the_root_has_nothing_but_what_functions_need(world):
    seen = world.attempt("list_the_root")["contained"]
    needed = {"bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "etc", "dev", "proc", "tmp", "var", "opt",
              "mnt", "run"}  # fmt: skip
    assert set(seen["root"]) <= needed
    assert set(seen["var"]) <= {"task", "runtime", "lang", "tmp"}


def test_etc_has_a_few_harmless_files(world):
    seen = world.attempt("list_etc")["contained"]
    harmless = {"passwd", "group", "hosts", "hostname", "resolv.conf", "nsswitch.conf", "localtime", "timezone", "ssl",
                "pki", "ca-certificates", "ca-certificates.conf", "alternatives", "ld.so.cache", "ld.so.conf",
                "ld.so.conf.d", "host.conf", "gai.conf", "protocols", "services", "mime.types", "crypto-policies",
                "locale.conf", "fonts", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "magic", "mtab",
                "networks", "os-release", "rpc",
                "lambdad"}  # the host's own sh, which bubblewrap's sandboxes wait in  # fmt: skip
    assert set(seen["etc"]) <= harmless
    assert len(seen["users"]) <= 3


def test_dev_has_only_devices_that_do_nothing(world):
    links = {"fd", "stdin", "stdout", "stderr"}
    assert set(world.attempt("list_devices")["contained"]["dev"]) - links == {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
    }


def test_devices_take_no_control_requests(world):
    errors = world.attempt("open_devices_for_control")["refused"]
    assert set(errors) == {"null", "zero", "full", "random", "urandom"}
    assert set(errors.values()) <= {"EPERM", "ENOTTY"}


def test_no_terminal_can_be_typed_into(world):
    errors = world.attempt("push_terminal_input")["refused"]
    assert errors.pop("/dev/tty") == "ENOENT"
    assert set(errors.values()) == {"EPERM"}


def test_device_nodes_cannot_be_made(world):
    assert world.attempt("make_device_nodes") == {"refused": {"disk": "EPERM", "memory": "EPERM", "null": "EPERM"}}


def test_no_mount_honours_devices_or_setuid_bits(world):
    verdict = world.attempt("use_devices_and_setuid_in_tmp")
    assert verdict == {"contained": {"missing": {}}}


def test_dot_dot_leads_no_further_than_the_root(world):
    assert world.attempt("climb_from_every_descriptor")["contained"]["tried"] >= 6


def test_changing_directory_leads_no_further_than_the_root(world):
    assert world.attempt("change_directory_out") == {"contained": {"at_root": True}}


def test_links_in_proc_lead_no_further_than_the_root(world):
    assert world.attempt("reach_out_through_proc")["contained"]["looked"] >= 4


def test_the_kernel_tells_the_paths_of_the_functions_own_mounts_and_nothing_that_can_be_opened(world):
    assert world.attempt("learn_host_paths")["contained"]["of_the_mount_alone"] >= 1


def test_chroot_is_refused_and_so_is_breaking_out_of_it(world):
    assert world.attempt("break_out_of_a_chroot") == {"refused": "EPERM"}


def test_files_of_the_host_cannot_be_opened_by_handle(world):
    assert set(world.attempt("open_the_host_by_handle")["refused"].values()) == {"EPERM"}
    assert world.attempt("ask_for_a_file_handle") == {"refused": "EPERM"}


def test_a_symlink_race_in_tmp_leads_nowhere(world):
    outcomes = set(world.attempt("race_symlinks_in_tmp")["contained"]["outcomes"])
    assert outcomes <= {"None", "ENOENT", "EEXIST", "EACCES", "EROFS", "ELOOP", "ENOTDIR"}
    assert "ENOENT" in outcomes


def test_tmp_belongs_to_one_environment(world):
    name = f"escape-{uuid.uuid4().hex}"
    verdict = world.attempt("leave_a_file_in_tmp", name=name)
    assert name in verdict["contained"]["tmp"]
    assert not Path("/tmp", name).exists()
    assert world.attempt("find_a_file_in_tmp", world.create(), name=name) == {"refused": "ENOENT"}
    assert world.attempt("find_a_file_in_tmp", name=name) == {"escaped": f"/tmp/{name}"}  # its own, still there


def test_tmp_has_nothing_of_the_host(world):
    mine = Path(f"/tmp/escape-{uuid.uuid4().hex}")
    mine.write_text("of the host")
    try:
        verdict = world.attempt("leave_a_file_in_tmp", world.create(), name="own")
    finally:
        mine.unlink()
    assert verdict == {"contained": {"tmp": ["own"]}}


@pytest.mark.parametrize("what", ["code", "data directory"])
def test_the_host_sees_nothing_changed(world, what):
    """What the attempts of this module have tried to write has reached neither the code nor the data directory."""
    folder = world.daemon.data_dir / "unpacked" if what == "code" else world.daemon.data_dir
    names = [name for _, folders, files in os.walk(folder) for name in folders + files]
    assert names
    assert [name for name in names if name.startswith("escape-")] == []
