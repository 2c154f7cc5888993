"""The last good version of a policy, for a process that starts with a faulty one."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject.api import ConfigureRequest
from nri_inject.errors import ConfigError
from nri_inject.policy import kept
from nri_inject.policy.kept import LastGoodPolicy
from nri_inject.policy.rules import Policy
from nri_inject.policy.source import PolicyFile, Standing
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.environment import Environment

GOOD = "rules: [{name: one, allow: {hooks: [a]}}]"
OTHER = "rules: [{name: two, allow: {hooks: [a]}}]"
BAD = "rules: [{name: loose, alow: {hooks: [a]}}]"
TIME = 1_000_000_000


class HostPath:
    """A policy file, the directory that copies are kept in, and what the test has opened."""

    def __init__(self, where: Path, opened: ExitStack) -> None:
        self.file = where / "policy.yaml"
        self.state = where / "state"
        self._opened = opened

    def write(self, text: str, written: int = TIME) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.utime(new, (written, written))
        new.rename(self.file)

    def kept(self, file: Path | None = None) -> LastGoodPolicy:
        return LastGoodPolicy(str(file or self.file), str(self.state))

    def started(self, **options: Any) -> PolicyFile:
        """Do what a process does that starts with `on_fault: keep`."""
        options.setdefault("kept", self.kept())
        return self._opened.enter_context(closing(PolicyFile(str(self.file), **options)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[HostPath]:
    tmp_path.chmod(0o755)
    with ExitStack() as opened:
        yield HostPath(tmp_path, opened)


def names(policy: Policy) -> list[str]:
    return [rule.name for rule in policy.rules]


def test_a_process_that_starts_with_a_faulty_version_denies(place: HostPath) -> None:
    place.write(GOOD)
    assert names(place.started(kept=None).current()) == ["one"]
    place.write(BAD)
    found = place.started(kept=None)
    fault = f"{place.file}: rules: rule 1: unknown key 'alow'; did you mean 'allow'?"
    assert found.current().trouble == f"the policy on this node is not usable: {fault}"
    assert found.standing == Standing(str(place.file), "nothing", None, fault)
    assert not place.state.exists()


def test_with_keep_it_uses_the_last_good_version_and_says_how_old_it_is(
    place: HostPath, caplog: pytest.LogCaptureFixture
) -> None:
    place.write(GOOD, TIME)
    place.started()
    place.write(OTHER, TIME + 60)
    place.started()
    place.write(BAD, TIME + 120)
    found = place.started()
    fault = f"{place.file}: rules: rule 1: unknown key 'alow'; did you mean 'allow'?"
    assert names(found.current()) == ["two"]
    assert found.standing == Standing(str(place.file), "kept", TIME + 60.0, fault)
    assert found.current().newer_fault == (
        f"{fault}; the version of 2001-09-09T01:47:40.000Z is in force"
    )
    assert caplog.messages == [f"policy not usable, the last good version is in force: {fault}"]
    place.write(GOOD, TIME + 180)
    assert names(found.current()) == ["one"]
    assert found.current().newer_fault == ""
    assert found.standing == Standing(str(place.file), "newest", TIME + 180.0, "")


def test_a_file_that_is_gone_at_the_start_is_a_fault_like_any_other(place: HostPath) -> None:
    place.write(GOOD)
    place.started()
    place.file.unlink()
    found = place.started()
    assert names(found.current()) == ["one"]
    assert found.error == f"{place.file} does not exist"


def test_without_a_good_version_it_denies_with_keep_too(place: HostPath) -> None:
    place.write(BAD)
    assert place.started().standing.in_force == "nothing"


def test_what_is_kept_is_roots_alone(place: HostPath) -> None:
    place.write(GOOD)
    place.state.mkdir(mode=0o755)
    place.started()
    (copy,) = place.state.iterdir()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (place.state, copy)]
    assert modes == [0o700, 0o600]
    assert str(copy) == place.kept().path


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda copy: copy.chmod(0o666),
            " can be written by everybody (mode 0666); refusing to read it",
        ),
        (
            lambda copy: copy.parent.chmod(0o777),
            " can be written by everybody (mode 0777); refusing to read it",
        ),
        (lambda copy: copy.write_text(OTHER), " is of another policy"),
        (lambda copy: copy.write_text(copy.read_text() + "x"), ": line "),
        (lambda copy: copy.unlink(), " does not exist"),
    ],
)
def test_a_copy_that_could_be_anothers_is_not_used(
    spoil: Any, fault: str, place: HostPath, caplog: pytest.LogCaptureFixture
) -> None:
    place.write(GOOD)
    place.started()
    spoil(Path(place.kept().path))
    place.write(BAD)
    assert place.started().standing.in_force == "nothing"
    front = "no last good version of the policy can be used: "
    assert caplog.messages[0].startswith(front)
    assert fault in caplog.messages[0]


def test_a_copy_is_bound_to_the_path_of_its_source(place: HostPath) -> None:
    place.write(GOOD)
    place.started()
    other = place.file.with_name("other.yaml")
    Path(place.kept().path).rename(place.kept(other).path)
    with pytest.raises(ConfigError, match=r"is of another policy$"):
        place.kept(other).read()


def test_a_policy_that_lets_containers_write_the_copy_is_none(place: HostPath) -> None:
    place.write(f"rules: [{{allow: {{mounts: [{{source: {place.state}, access: rw}}]}}}}]")
    place.state.mkdir(mode=0o700)
    Path(place.kept().path).touch()
    found = place.started()
    assert f"lets containers write {place.kept().path}, on which the policy depends" in found.error


def test_a_directory_that_cannot_be_made_is_logged_and_the_policy_is_in_force(
    place: HostPath, caplog: pytest.LogCaptureFixture
) -> None:
    place.write(GOOD)
    place.state.write_text("")
    assert place.started().standing.in_force == "newest"
    assert caplog.messages == [f"the policy is not kept in {place.kept().path}: File exists"]


# --- one environment, through configurations and connections --------------------------------------


@pytest.fixture
def around(place: HostPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    monkeypatch.setenv(kept.VARIABLE, str(place.state))
    place.write(GOOD)
    configured = config.Config(policy=config.PolicyPath(str(place.file)), audit="off")
    options = Options(idx="20", name="tested")
    with closing(Environment((), options, configured)) as opened:
        opened.configure(ConfigureRequest())
        yield opened


def in_force(around: Environment) -> tuple[list[str], str]:
    policy, standing = around.policy(), around.policy_standing
    assert policy is not None
    assert standing is not None
    return names(policy), standing.in_force


def test_a_new_connection_does_not_lose_the_version_before(
    place: HostPath, around: Environment
) -> None:
    assert in_force(around) == (["one"], "newest")
    place.write(BAD)
    around.configure(ConfigureRequest())
    assert in_force(around) == (["one"], "before")


def test_configuration_and_policy_that_change_together_do_not_lose_it_either(
    place: HostPath, around: Environment
) -> None:
    place.write(BAD)
    around.reconfigure(config.Config(policy=config.PolicyPath(str(place.file)), audit="log"))
    assert in_force(around) == (["one"], "before")
    around.reconfigure(config.Config(policy=config.PolicyPath(str(place.file), on_fault="keep")))
    assert in_force(around) == (["one"], "before")


def test_another_policy_file_with_a_fault_leaves_the_policy_before_in_force(
    place: HostPath, around: Environment
) -> None:
    other = place.file.with_name("other.yaml")
    other.write_text(BAD)
    around.reconfigure(config.Config(policy=config.PolicyPath(str(other))))
    assert in_force(around) == (["one"], "before")
    policy = around.policy()
    assert policy is not None
    assert policy.newer_fault.endswith(f"did you mean 'allow'?; {place.file} is in force")
    other.write_text(OTHER)
    assert in_force(around) == (["two"], "newest")


def test_a_file_with_a_fault_in_place_of_the_unrestricted_policy_denies(
    place: HostPath, around: Environment
) -> None:
    around.reconfigure(config.Config(policy="unrestricted"))
    place.write(BAD)
    around.reconfigure(config.Config(policy=config.PolicyPath(str(place.file))))
    assert in_force(around) == ([], "nothing")


def test_it_is_told_when_another_policy_is_in_force(place: HostPath, around: Environment) -> None:
    told: list[str] = []
    around.on_policy = lambda: told.append("changed")
    around.policy()
    place.write(OTHER)
    around.policy()
    around.policy()
    assert told == ["changed"]


def test_a_write_that_fails_leaves_the_copy_before(
    place: HostPath, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    place.write(GOOD)
    place.started()
    Path(f"{place.kept().path}.new").mkdir()
    place.write(OTHER)
    place.started()
    assert place.kept().read().counts == GOOD.encode()
    assert len(caplog.messages) == 1
