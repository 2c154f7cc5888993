"""What each plugin of the suite wants a runtime to do with a request that it does not answer."""

from __future__ import annotations

from contextlib import closing
from typing import Literal

import pytest

from nri_inject import api
from nri_inject.plugins import (
    cdi_injector,
    device_injector,
    differ,
    hook_injector,
    logger,
    policy_validator,
    resource_assigner,
    suite,
)
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.stub import Limits
from nri_inject.stub.handshake import Handshake

FAIL = api.FailurePolicy(fail_request=True, keep_connected=True)

NEED_AN_ANSWER = (
    suite.main,
    device_injector.main,
    cdi_injector.main,
    hook_injector.main,
    policy_validator.main,
    resource_assigner.main,
)
MERELY_WRITE = (logger.main, differ.main)


def answered(
    command: Command, *, config: Literal["fail", "pass"], drop_in: str
) -> api.ConfigureResponse:
    """Return what a program answers to Configure: its own configuration, and the runtime's."""
    options = Options(idx=command.idx, name=command.name)
    service = Supervisor(command.service(options, Config(on_no_answer=config)))
    request = api.ConfigureRequest(
        runtime_name="containerd", runtime_version="v2.4.0", NRI_version="v0.12.5", config=drop_in
    )
    with closing(service):
        return Handshake(service.plugin, Limits()).configure(request)


@pytest.mark.parametrize("command", NEED_AN_ANSWER, ids=lambda command: command.name)
@pytest.mark.parametrize(
    ("config", "drop_in", "fails"),
    [
        ("fail", "", True),
        ("pass", "", False),
        ("fail", "on_no_answer: pass", False),
        ("pass", "on_no_answer: fail", True),
        ("pass", "audit: 'off'", True),
    ],
)
def test_a_container_does_not_start_without_its_answer_unless_the_admin_wants_that(
    command: Command, config: Literal["fail", "pass"], drop_in: str, fails: bool
) -> None:
    answer = answered(command, config=config, drop_in=drop_in)
    assert answer.HasField("failure_policy") is fails
    assert answer.failure_policy == (FAIL if fails else api.FailurePolicy())


@pytest.mark.parametrize("command", MERELY_WRITE, ids=lambda command: command.name)
def test_a_plugin_that_merely_writes_never_fails_a_request(command: Command) -> None:
    answer = answered(command, config="fail", drop_in="on_no_answer: fail")
    assert not answer.HasField("failure_policy")
