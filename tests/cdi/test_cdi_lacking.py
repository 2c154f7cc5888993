"""What specs ask for and containers cannot have: groups, and things that the host lacks."""

from __future__ import annotations

from typing import Any

import pytest
from support.resolving import DEVICES, OLD, bare, known, placed, resolved, spec

from nri_inject import api
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.resolve import resolve
from nri_inject.host.model import HostPath

PATTERN = "CDI has no patterns; list the nodes, or use nri-inject cdi generate"
GROUPS = "additionalGids {}: NRI cannot add groups to a container; "


@pytest.mark.parametrize(
    ("user", "lacking"),
    [
        (api.User(uid=0), []),
        (api.User(uid=1000), [44, 992]),
        (api.User(uid=1000, gid=44), [992]),
        (api.User(uid=1000, gid=1000, additional_gids=[992, 44]), []),
        (api.User(uid=1000, additional_gids=[44]), [992]),
    ],
)
def test_groups_that_the_container_needs_and_lacks_cannot_be_carried(
    user: api.User, lacking: list[int]
) -> None:
    found = resolved({"additionalGids": [0, 44, 44, 992]}, container=Container(user=user))
    numbers = ", ".join(map(str, lacking))
    assert bare(found.unsupported) == (
        (
            (
                f"{GROUPS.format(numbers)}add supplementalGroups: [{numbers}] to the pod's"
                " securityContext, or set on_unsupported: warn or cdi.mode: native in the plugin's"
                " configuration"
            ),
        )
        if lacking
        else ()
    )
    assert (found.adjust, found.warnings) == (Adjustment(), ())


@pytest.mark.parametrize(
    ("container", "runtime"), [(Container(), NEWEST), (Container(user=api.User(uid=1000)), OLD)]
)
def test_a_container_whose_user_the_runtime_does_not_tell_starts_with_a_warning(
    container: Container, runtime: Runtime
) -> None:
    found = resolved({"additionalGids": [44]}, container=container, runtime=runtime)
    assert (found.adjust, found.unsupported) == (Adjustment(), ())
    assert bare(found.warnings) == (
        f"{GROUPS.format(44)}one that is not root lacks them, unless its pod has them",
    )


def test_without_a_container_groups_are_told_with_the_runtimes_ways_out() -> None:
    found = resolve(["v.com/d=0"], known({"additionalGids": [44]}), DEVICES, runtime=OLD)
    assert bare(found.unsupported)[0].endswith(
        "or set on_unsupported: warn in the plugin's configuration"
    )


def test_faults_of_several_devices_name_each_device_and_file_once() -> None:
    nodes = {"deviceNodes": [{"path": "/dev/x"}, {"path": "/dev/y"}]}
    other = {"deviceNodes": [{"path": "/dev/z"}]}
    snapshot = placed(spec(nodes, kind="v.com/a"), spec(other, kind="v.com/b"))
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/a=0", "v.com/b=0"], snapshot, DEVICES)
    assert caught.value.faults == (
        "CDI device 'v.com/a=0' of /etc/cdi/0.json: device node '/dev/x': the host has no '/dev/x'",
        "device node '/dev/y': the host has no '/dev/y'",
        "CDI device 'v.com/b=0' of /etc/cdi/1.json: device node '/dev/z': the host has no '/dev/z'",
    )


class _Host(dict[str, HostPath]):
    """Files of a host that says why it has no other."""

    def __missing__(self, path: str) -> HostPath:
        raise KeyError(f"{path} does not exist")


@pytest.mark.parametrize(
    ("edits", "fault"),
    [
        (
            {"mounts": [{"hostPath": "/usr/bin/smi", "containerPath": "/usr/bin/smi"}]},
            "mount to '/usr/bin/smi': /usr/bin/smi does not exist",
        ),
        (
            {"hooks": [{"hookName": "createContainer", "path": "/usr/bin/ctk"}]},
            "createContainer hook: program /usr/bin/ctk does not exist",
        ),
        (
            {"deviceNodes": [{"path": "/dev/ttyUSB*"}]},
            f"device node '/dev/ttyUSB*': the host has no '/dev/ttyUSB*'; {PATTERN}",
        ),
        ({"mounts": [{"hostPath": "tmpfs", "containerPath": "/x", "type": "tmpfs"}]}, None),
        ({"hooks": [{"hookName": "startContainer", "path": "/usr/bin/ctk"}]}, None),
    ],
)  # fmt: skip
def test_what_a_spec_names_and_the_host_lacks_is_a_fault(
    edits: dict[str, Any], fault: str | None
) -> None:
    if fault is None:
        assert resolve(["v.com/d=0"], known(edits), DEVICES, files=_Host()).adjust.ByteSize() > 0
        return
    with pytest.raises(CdiError) as caught:
        resolve(["v.com/d=0"], known(edits), DEVICES, files=_Host())
    assert bare(caught.value.faults) == (fault,)
