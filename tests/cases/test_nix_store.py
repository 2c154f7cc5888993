"""Files in a store such as that of Nix (root:nixbld, mode 1775): believed where they are safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.saying import said, without

from nri_inject.host import trust

SPEC = "cdiVersion: '0.5.0'\nkind: a.com/b\ndevices: [{name: c, containerEdits: {env: [A=1]}}]\n"
HOOK = (
    '{"version": "1.0.0", "hook": {"path": "/bin/true", "env": ["A=1"]}, "when": {"always": true},'
    ' "stages": ["poststop"]}'
)
BELIEVED = [0o1775, 0o1755, 0o755, 0o1770]
NOT_BELIEVED = [0o1777, 0o775, 0o777, 0o1757]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store with a spec and a hook file, and links to them in the usual directories."""
    store = tmp_path / "store"
    store.mkdir()
    for directory, name, text in (("cdi", "spec.yaml", SPEC), ("hooks", "hook.json", HOOK)):
        (store / name).write_text(text)
        (store / name).chmod(0o444)
        (tmp_path / directory).mkdir()
        (tmp_path / directory / name).symlink_to(store / name)
    return store


@pytest.mark.parametrize("mode", BELIEVED, ids=oct)
def test_files_of_a_store_are_in_use(mode: int, store: Path, tmp_path: Path) -> None:
    store.chmod(mode)
    _, specs = said("cdi", "list", "--cdi-dir", tmp_path / "cdi")
    assert without(tmp_path, specs) == ["a.com/b=c  (cdi/spec.yaml)"]
    _, hooks = said("hooks", "list", "--hooks-dir", tmp_path / "hooks")
    assert without(tmp_path, hooks) == ["hooks/hook.json: /bin/true at poststop"]


@pytest.mark.parametrize("mode", NOT_BELIEVED, ids=oct)
def test_files_that_others_could_replace_are_not(mode: int, store: Path, tmp_path: Path) -> None:
    store.chmod(mode)
    _, specs = said("cdi", "list", "--cdi-dir", tmp_path / "cdi")
    assert specs[0] == f"no devices in {tmp_path}/cdi"


def test_a_link_of_roots_in_a_store_is_followed(store: Path) -> None:
    store.chmod(0o1775)
    (store / "link.yaml").symlink_to("spec.yaml")
    assert trust.untrusted(str(store / "link.yaml")) is None


@pytest.mark.parametrize("mode", [0o464, 0o446, 0o666], ids=oct)
def test_a_file_that_others_can_write_is_not(mode: int, store: Path) -> None:
    store.chmod(0o1775)
    (store / "spec.yaml").chmod(mode)
    assert "can be written by" in (trust.untrusted(str(store / "spec.yaml")) or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not(store: Path) -> None:
    store.chmod(0o1775)
    os.chown(store / "spec.yaml", 65534, 0)
    assert trust.untrusted(str(store / "spec.yaml")) == (
        f"{store}/spec.yaml belongs to user 65534, not to root"
    )


@pytest.mark.parametrize("protected", [True, False])
def test_a_second_name_is_believed_where_users_cannot_make_one(
    protected: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's optimiser gives equal files one inode."""
    monkeypatch.setattr(trust, "hard_links_are_protected", lambda: protected)
    store.chmod(0o1775)
    os.link(store / "spec.yaml", store / "same.yaml")
    why = f"{store}/same.yaml is in {store}, where others can put files"
    assert trust.untrusted(str(store / "same.yaml")) == (None if protected else why)
