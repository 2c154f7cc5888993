"""Files that no program reads because of their names or their place: each is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.saying import CASES, said, without

SPEC = "only files that end in .json or .yaml are read"
HOOK = "only files that end in .json are read"

# A name, and what is said of its ending; None where the file is read, as a spec or as a hook file.
NAMES: list[tuple[str, str | None, str | None]] = [
    ("nvidia.yaml", None, "its name ends in '.yaml'"),
    ("nvidia.json", None, None),
    (".hidden.json", None, None),
    ("nvidia.yml", "its name ends in '.yml'", "its name ends in '.yml'"),
    ("nvidia.YAML", "its name ends in '.YAML'", "its name ends in '.YAML'"),
    ("hook.JSON", "its name ends in '.JSON'", "its name ends in '.JSON'"),
    ("hook.Json", "its name ends in '.Json'", "its name ends in '.Json'"),
    ("hook.conf", "its name ends in '.conf'", "its name ends in '.conf'"),
    ("hook.json~", "its name ends in '.json~'", "its name ends in '.json~'"),
    ("hook.json.bak", "its name ends in '.bak'", "its name ends in '.bak'"),
    ("hook.json.rpmsave", "its name ends in '.rpmsave'", "its name ends in '.rpmsave'"),
    ("hook.json.dpkg-old", "its name ends in '.dpkg-old'", "its name ends in '.dpkg-old'"),
    ("hook.json.disabled", "its name ends in '.disabled'", "its name ends in '.disabled'"),
    (".hook.json.swp", "its name ends in '.swp'", "its name ends in '.swp'"),
    ("#hook.json#", "its name ends in '.json#'", "its name ends in '.json#'"),
    ("hook.json ", "its name ends in '.json '", "its name ends in '.json '"),
    ("nvidia", "its name has no ending", "its name has no ending"),
    ("README", "its name has no ending", "its name has no ending"),
]


@pytest.mark.parametrize(("name", "as_spec", "as_hook"), NAMES)
def test_validate_warns_of_a_name_that_is_not_read(
    name: str, as_spec: str | None, as_hook: str | None, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(
        "cdiVersion: '0.5.0'\nkind: acme.com/a\ndevices: [{name: b, containerEdits: {env: [A=1]}}]"
    )
    warned = [f"{file}: warning: will not be read: {as_spec}, and {SPEC}"] if as_spec else []
    assert said("cdi", "validate", file) == (0, warned)
    file.write_text((CASES / "22/hook.JSON").read_text())
    warned = [f"{file}: warning: will not be read: {as_hook}, and {HOOK}"] if as_hook else []
    assert said("hooks", "validate", file) == (0, warned)


def test_list_names_every_file_that_is_not_read(tmp_path: Path) -> None:
    for name, _, _ in NAMES:
        (tmp_path / name).write_text("{}")
    status, lines = said("cdi", "list", "--cdi-dir", tmp_path)
    unread = [(name, why) for name, why, _ in sorted(NAMES) if why]
    assert status == 0
    assert [line for line in without(tmp_path, lines) if line.startswith("warning")] == [
        f"warning: {name}: is not read: {why}, and {SPEC}" for name, why in unread
    ]
    status, lines = said("hooks", "list", "--hooks-dir", tmp_path)
    unread = [(name, why) for name, _, why in sorted(NAMES) if why]
    assert status == 0
    assert [line for line in without(tmp_path, lines) if line.startswith("warning")] == [
        f"warning: {name}: is not read: {why}, and {HOOK}" for name, why in unread
    ]


def test_a_directory_is_told_if_it_has_such_files(tmp_path: Path) -> None:
    for name in ("vendor/a.json", "empty", "notes/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch() if "." in name else (tmp_path / name).mkdir()
    sentence = "warning: vendor: is a directory, so a.json in it is not read"
    status, lines = said("cdi", "list", "--cdi-dir", tmp_path)
    assert (status, without(tmp_path, lines)) == (0, [f"no devices in {tmp_path}", sentence])
    status, lines = said("hooks", "list", "--hooks-dir", tmp_path)
    assert (status, without(tmp_path, lines)) == (0, [sentence])


def test_the_files_of_the_case() -> None:
    spec, hook = CASES / "22/acme.yml", CASES / "22/hook.JSON"
    why = "warning: will not be read: its name ends in"
    assert said("cdi", "validate", spec) == (0, [f"{spec}: {why} '.yml', and {SPEC}"])
    assert said("hooks", "validate", hook) == (0, [f"{hook}: {why} '.JSON', and {HOOK}"])
