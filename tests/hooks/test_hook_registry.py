"""Reading the definitions of directories, and keeping them up to date."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import hook_vectors, hooks_without_env

from nri_inject.hooks.match import AS_GO, Choices, HookSubject, NoCommand, injection
from nri_inject.hooks.registry import MAX_FILE, HookRegistry

GROUPS = (
    *("dirs", "fields", "files", "json", "order", "regex", "stages"),
    *("v0", "v1", "when"),
)
VECTORS = {vector["name"]: vector for group in GROUPS for vector in hook_vectors.load(group)}
RELOADS = {vector["name"]: vector for vector in hook_vectors.load("reload")}

# What we report and the library passes over in silence, by name of the vector.
REPORTED = {
    name: [{"phase": "load", "dir": directory, "file": file, "kind": "unreadable"}]
    for name, directory, file in (
        ("dirs/dangling-override", "override", "a.json"),
        ("files/dangling-link", "hooks.d", "b.json"),
    )
}

# What containers get otherwise than with the library: name of the vector and step -> why.
OTHERWISE = {
    ("reload/override-breaks", 0): "the last good version of a half-written file stays",
    ("reload/written-in-pieces", 0): "the last good version of a half-written file stays",
    ("reload/written-in-pieces", 1): "the last good version of a half-written file stays",
    ("reload/program-goes", 0): "a hook whose program is gone is not injected",
    ("reload/program-goes", 2): "it comes back with its program",
    ("reload/directory-replaced", 1): "a directory that comes back is read again",
}
OURS = {
    ("reload/override-breaks", 0): ["hook2"],
    ("reload/written-in-pieces", 0): ["hook1", "hook3"],
    ("reload/written-in-pieces", 1): ["hook1", "hook3"],
    ("reload/program-goes", 0): ["hook1"],
    ("reload/program-goes", 2): ["hook1", "hook2"],
    ("reload/directory-replaced", 1): ["hook2"],
}


def subject_of(vector: Mapping[str, Any], choices: Choices = AS_GO) -> HookSubject:
    return HookSubject(vector["annotations"], vector["args"], vector["has_bind_mounts"], choices)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_container_gets_what_the_library_gives_it(name: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    host = hook_vectors.set_up(tmp_path, vector)
    expected = hooks_without_env.expected(name, host.expanded(vector["expect"]))
    with closing(HookRegistry(host.directories(vector), unsafe=True)) as registry:
        definitions = registry.current()
        faults = found_faults(registry, vector, host)
    at_load = [error for error in expected["errors"] or () if error["phase"] == "load"]
    assert faults == at_load + REPORTED.get(name, [])
    if expected["hooks"] is None:
        with pytest.raises(NoCommand):
            injection(definitions, subject_of(vector))
        return
    result = hook_vectors.injected(injection(definitions, subject_of(vector)))
    if vector.get("tie"):
        result, expected = sorted_lists(result), sorted_lists(expected)
    assert result["hooks"] == {k: v for k, v in expected["hooks"].items() if v}
    assert result["matched"] == expected["matched"]


def found_faults(
    registry: HookRegistry, vector: Mapping[str, Any], host: hook_vectors.Host
) -> list[dict[str, str]]:
    """Return the first fault of each file, in the order of directories and names."""
    names = {str(host.directory(name)): name for name in vector["dirs"]}
    places = []
    for file, (first, *_) in registry.faults.items():
        directory, _, name = file.rpartition("/")
        places.append((vector["dirs"].index(names[directory]), os.fsencode(name), first.kind.value))
    return [
        {"phase": "load", "dir": vector["dirs"][number], "file": os.fsdecode(name), "kind": kind}
        for number, name, kind in sorted(places)
    ]


def sorted_lists(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hooks": {k: sorted(v, key=repr) for k, v in result["hooks"].items()},
        "matched": sorted(result["matched"]),
    }


@pytest.mark.parametrize("name", RELOADS)
def test_changes_are_seen_by_the_next_request(name: str, tmp_path: Path) -> None:
    vector = RELOADS[name]
    host = hook_vectors.set_up(tmp_path, vector)
    with closing(HookRegistry(host.directories(vector), unsafe=True)) as registry:
        expected = hooks_without_env.expected(name, host.expanded(vector))
        assert reload_result(registry, vector) == expected["expect_initial"]
        for number, step in enumerate(vector["steps"]):
            for operation in step["do"]:
                perform(operation, host)
            result = reload_result(registry, vector)
            if (name, number) in OTHERWISE:
                programs = [hook["path"].rpartition("/")[2] for hook in result["poststart"]]
                assert programs == OURS[name, number]
            else:
                assert result == expected["steps"][number]["expect"]["hooks"], number


def reload_result(registry: HookRegistry, vector: Mapping[str, Any]) -> dict[str, Any]:
    return hook_vectors.hooks_of(injection(registry.current(), subject_of(vector)).hooks)


def perform(operation: Mapping[str, str], host: hook_vectors.Host) -> None:
    path = host.directory(operation["dir"]) / operation["file"]
    match operation["op"]:
        case "write":
            path.write_text(host.expand(operation["content"]))
        case "append":
            with path.open("a") as file:
                file.write(host.expand(operation["content"]))
        case "remove":
            path.unlink()
        case "remove-dir":
            shutil.rmtree(path)
        case "mkdir":
            path.mkdir()
        case "rename":
            path.rename(host.directory(operation["to_dir"]) / operation["to_file"])
        case "symlink":
            path.symlink_to(host.expand(operation["target"]))
        case "chmod":
            path.chmod(int(operation["mode"], 8))
        case other:
            raise ValueError(other)


# --- beyond the vectors ---


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a host with two hook directories and a program."""
    for name in ("base", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    return tmp_path


@pytest.fixture
def registry(place: Path) -> Iterator[HookRegistry]:
    with closing(HookRegistry([str(place / "base"), str(place / "etc")])) as registry:
        yield registry


def define(file: Path, program: Path | str | None = None, **changes: Any) -> None:
    path = str(program or file.parent.parent / "program")
    base = {"version": "1.0.0", "hook": {"path": path}, "when": {"always": True}, "stages": []}
    file.write_text(json.dumps({**base, **changes}))


def files(registry: HookRegistry) -> list[str]:
    return ["/".join(d.file.split("/")[-2:]) for d in registry.current() if not d.unusable]


def errors(registry: HookRegistry, place: Path) -> dict[str, list[str]]:
    return {
        file.removeprefix(f"{place}/"): [s.replace(f"{place}/", "") for s in sentences]
        for file, sentences in registry.errors.items()
    }


def test_nothing_is_read_again_when_nothing_changed(place: Path, registry: HookRegistry) -> None:
    define(place / "etc/a.json")
    first = registry.current()
    assert registry.current() is first


def test_fifo_device_and_socket_are_refused_without_waiting(
    place: Path, registry: HookRegistry
) -> None:
    os.mkfifo(place / "etc/fifo.json")
    (place / "etc/zero.json").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "etc/socket.json"))
    define(place / "etc/good.json")
    assert files(registry) == ["etc/good.json"]
    kinds = {"fifo", "zero", "socket"}
    assert set(registry.errors) == {str(place / f"etc/{kind}.json") for kind in kinds}
    assert errors(registry, place)["etc/fifo.json"] == ["is a fifo, not a file"]


def test_huge_file_is_not_read(place: Path, registry: HookRegistry) -> None:
    with (place / "etc/a.json").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    assert files(registry) == []
    assert errors(registry, place) == {"etc/a.json": ["has 1048577 bytes, at most 1048576 allowed"]}


def test_links_that_lead_nowhere_are_reported(place: Path, registry: HookRegistry) -> None:
    (place / "etc/loop.json").symlink_to("loop.json")
    (place / "etc/none.json").symlink_to("/none/x")
    assert registry.current() == ()
    assert errors(registry, place) == {
        "etc/loop.json": ["leads through too many links"],
        "etc/none.json": ["is a link to /none, which does not exist"],
    }


def test_file_behind_a_link_is_followed(place: Path, registry: HookRegistry) -> None:
    (place / "elsewhere").mkdir()
    define(place / "elsewhere/real", place / "program")
    (place / "etc/a.json").symlink_to("../elsewhere/real")
    assert [d.args for d in registry.current()] == [()]
    define(place / "elsewhere/real", hook={"path": str(place / "program"), "args": ["new"]})
    assert [d.args for d in registry.current()] == [("new",)]


def test_later_directory_wins_and_the_earlier_comes_back(
    place: Path, registry: HookRegistry
) -> None:
    define(place / "base/a.json")
    assert files(registry) == ["base/a.json"]
    define(place / "etc/a.json")
    assert files(registry) == ["etc/a.json"]
    (place / "etc/a.json").unlink()
    assert files(registry) == ["base/a.json"]


def test_override_that_is_wrong_leaves_the_base_in_force_and_says_so(
    place: Path, registry: HookRegistry
) -> None:
    define(place / "base/a.json")
    define(place / "etc/a.json", stages=["no"])
    assert files(registry) == ["base/a.json"]
    fault, remark = errors(registry, place)["etc/a.json"]
    assert fault.startswith("stages[0]: 'no' must be one of createContainer")
    assert remark == "so base/a.json stays in force"


def test_half_written_file_keeps_its_meaning_and_is_called_stale(
    place: Path, registry: HookRegistry
) -> None:
    define(place / "etc/a.json")
    before = registry.current()
    (place / "etc/a.json").write_text('{"version": ')
    assert registry.current() == before
    assert errors(registry, place)["etc/a.json"] == [
        "line 1, column 13: the file ends here, before its brackets are closed",
        "stale: the previous version stays in force",
    ]
    define(place / "etc/a.json", when={"always": False})
    assert [d.when.always for d in registry.current()] == [False]
    assert registry.errors == {}


def test_file_that_was_never_whole_is_not_used(place: Path, registry: HookRegistry) -> None:
    (place / "etc/a.json").write_text("{")
    assert registry.current() == ()


def test_same_size_rewritten_at_once_is_seen(place: Path, registry: HookRegistry) -> None:
    for number in range(10, 60):
        define(place / "etc/a.json", hook={"path": str(place / "program"), "timeout": number})
        assert [d.timeout for d in registry.current()] == [number]


def test_program_comes_and_goes(place: Path, registry: HookRegistry) -> None:
    define(place / "etc/a.json")
    assert [d.unusable for d in registry.current()] == [""]
    (place / "program").rename(place / "away")
    missing = f"program {place}/program does not exist"
    assert [d.unusable for d in registry.current()] == [missing]
    assert registry.errors == {str(place / "etc/a.json"): (f"hook.path: {missing}",)}
    (place / "away").rename(place / "program")
    assert [d.unusable for d in registry.current()] == [""]


def test_program_for_inside_of_the_container_is_not_looked_for_on_the_host(
    place: Path, registry: HookRegistry
) -> None:
    define(place / "etc/a.json", "/no/such/program", stages=["startContainer"])
    assert [d.unusable for d in registry.current()] == [""]
    define(place / "etc/a.json", "/no/such/program", stages=["startContainer", "poststop"])
    assert [bool(d.unusable) for d in registry.current()] == [True]


@pytest.mark.parametrize("path", ["program", "."])
def test_program_that_others_could_have_written_is_refused(
    path: str, place: Path, registry: HookRegistry
) -> None:
    define(place / "etc/a.json")
    (place / path).chmod(0o777)
    (definition,) = registry.current() or [None]
    if path == "program":
        assert definition is not None
        assert definition.unusable == (
            f"program {place}/program can be written by everybody (mode 0777)"
        )
    else:
        assert definition is None  # its directory is not trusted either


@pytest.mark.parametrize("path", ["etc", "etc/a.json"])
def test_file_that_others_could_have_written_is_refused_unless_told(
    path: str, place: Path, registry: HookRegistry
) -> None:
    define(place / "etc/a.json")
    assert files(registry) == ["etc/a.json"]
    (place / path).chmod(0o777)
    assert files(registry) == []
    (sentence,) = errors(registry, place)[path]
    assert sentence.startswith(f"{path} can be written by everybody (mode 0777)")
    with closing(HookRegistry([str(place / "etc")], unsafe=True)) as trusting:
        assert files(trusting) == ["etc/a.json"]
    (place / path).chmod(0o755)
    assert files(registry) == ["etc/a.json"]


def test_directory_that_is_a_file_is_an_error(place: Path) -> None:
    (place / "file").touch()
    with closing(HookRegistry([str(place / "file")])) as registry:
        assert registry.current() == ()
        assert registry.errors == {str(place / "file"): ("is not a directory",)}


def test_missing_directory_is_no_error_and_may_come(place: Path) -> None:
    with closing(HookRegistry([str(place / "new/hooks.d")])) as registry:
        assert (registry.current(), dict(registry.errors)) == ((), {})
        (place / "new/hooks.d").mkdir(parents=True)
        define(place / "new/hooks.d/a.json", place / "program")
        assert files(registry) == ["hooks.d/a.json"]


def test_host_in_a_directory_of_a_container_is_looked_at(place: Path) -> None:
    define(place / "etc/a.json", "/program")
    (place / "etc/b.json").symlink_to("/etc/a.json")
    with closing(HookRegistry(["/etc"], host_root=str(place))) as registry:
        assert [(d.file, d.path, d.unusable) for d in registry.current()] == [
            ("/etc/a.json", "/program", ""),
            ("/etc/b.json", "/program", ""),
        ]


def test_when_time_is_up_the_rest_is_read_at_the_next_call(place: Path) -> None:
    with closing(HookRegistry([str(place / "etc")], budget=0.0)) as registry:
        for name in "ab":
            define(place / f"etc/{name}.json")
        assert registry.current() == ()
        late = "not read yet: too many hook files changed at the same time"
        assert errors(registry, place) == {"etc/a.json": [late], "etc/b.json": [late]}
        registry.ready()
        assert registry.errors == {}
        assert files(registry) == ["etc/a.json", "etc/b.json"]


def test_snapshot_given_out_does_not_change(place: Path, registry: HookRegistry) -> None:
    define(place / "etc/a.json")
    snapshot = registry.current()
    (place / "etc/a.json").unlink()
    assert registry.current() == ()
    assert len(snapshot) == 1


def test_file_name_that_is_not_utf8_is_read(place: Path, registry: HookRegistry) -> None:
    define(place / "etc/a\udcff.json")
    assert files(registry) == ["etc/a\udcff.json"]


def test_nothing_is_raised_when_even_the_working_directory_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "work").mkdir()
    monkeypatch.chdir(place / "work")
    with closing(HookRegistry(["hooks.d", "with\0nul", str(place / "etc")])) as registry:
        define(place / "etc/a.json", "relative/program")
        (place / "work").rmdir()
        assert files(registry) == []
        define(place / "etc/b.json", place / "program")
        assert files(registry) == ["etc/b.json"]
    monkeypatch.chdir(place)
