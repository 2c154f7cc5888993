"""The OCI runtime spec of a container before any plugin adjusts it."""

from __future__ import annotations

from nri_inject import api
from nri_inject.runtime.apply import OciSpec, in_oci


def oci_spec(container: api.Container) -> OciSpec:
    """Make a plausible OCI runtime spec for a container as it is before any plugin adjusts it."""
    linux = in_oci(container.linux)
    process = {
        "user": in_oci(container.user),
        "args": list(container.args),
        "env": list(container.env),
        "cwd": "/",
        "rlimits": [in_oci(limit) for limit in container.rlimits],
        **_taken(linux, "oomScoreAdj", "ioPriority", "scheduler"),
    }
    return {
        "ociVersion": "1.2.0",
        "process": {name: value for name, value in process.items() if value != []},
        "root": {"path": "rootfs"},
        "mounts": [in_oci(mount) for mount in container.mounts],
        "annotations": {key: container.annotations[key] for key in sorted(container.annotations)},
        **({"hooks": hooks} if (hooks := in_oci(container.hooks)) else {}),
        "linux": _oci_linux(linux),
    }


def _oci_linux(linux: OciSpec) -> OciSpec:
    _taken(linux, "seccompProfile")  # a name for a policy, which the OCI spec holds in full
    renamed = {"intelRdt": linux.pop("rdt", None), "seccomp": linux.pop("seccompPolicy", None)}
    if resources := linux.get("resources"):
        _taken(resources, "blockioClass", "rdtClass")  # likewise names
    return linux | {name: value for name, value in renamed.items() if value is not None}


def _taken(spec: OciSpec, *names: str) -> OciSpec:
    return {name: spec.pop(name) for name in names if name in spec}
