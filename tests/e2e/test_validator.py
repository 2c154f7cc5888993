"""Validators on real runtimes: ours, which holds a policy against others, and NRI's own."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import NewContainerd, NewRuntime
from .containerd import Containerd
from .cri import CriError
from .daemon import Daemon
from .plugin import BIN, External, install

FUSE = {"devices.noderesource.dev": "- path: /dev/fuse\n"}
SINCE = (0, 10, 0)
"""The NRI that first asks validators."""

TOLERATED = "required-plugins.noderesource.dev"
REQUIRED = {
    "enable": True,
    "required_plugins": ["device-injector"],
    "tolerate_missing_plugins_annotation": TOLERATED,
}


def refused(daemon: Daemon, annotations: dict[str, str]) -> str:
    pod = daemon.cri.run_pod("build", "ci", annotations=annotations)
    with pytest.raises(CriError) as caught:
        daemon.cri.create(pod, "main")
    return caught.value.message


def has_fuse(daemon: Daemon, annotations: dict[str, str]) -> bool:
    """Run a container, and tell whether it can use the device."""
    pod = daemon.cri.run_pod("build", "ci", annotations=annotations)
    container = daemon.cri.run(pod, "main")
    return (
        daemon.cri.exec(container, "sh", "-c", "test -c /dev/fuse && exec 3<>/dev/fuse").exit_code
        == 0
    )


def test_what_another_plugin_gives_and_the_policy_does_not_allow_fails_the_container(
    runtime: Daemon, tmp_path: Path
) -> None:
    """The other plugins give what they like: a device, and a variable, which needs no rule."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("")
    injector, validator = "nri-device-injector", "nri-policy-validator"
    injecting = ("--policy", "unrestricted", "--idx", "10", "--name", "careless")
    logging = ("--log-file", "/dev/null", "--add-env", "WHO", "--idx", "90")
    with (
        closing(External(injector, runtime, tmp_path / "injector.log", *injecting)),
        closing(External("nri-logger", runtime, tmp_path / "logger.log", *logging)),
        closing(
            External(validator, runtime, tmp_path / "log", "--policy", str(policy))
        ) as validating,
    ):
        if runtime.kind.nri < SINCE:
            assert "never calls a validator, so nothing is validated" in validating.log
            assert has_fuse(runtime, FUSE)
            return
        denied = (
            "pod ci/build, container main: plugin 10-careless: device '/dev/fuse' (c 10:229):"
            f" no rule of {policy} allows it; a rule that allows it:"
            " {who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
        )
        assert refused(runtime, FUSE).endswith(denied)
        assert not has_fuse(runtime, {})

        rule = "{who: {namespaces: [ci], plugins: ['10-*']}, allow: {devices: [/dev/fuse]}}"
        policy.write_text(f"rules: [{rule}]\n")
        assert has_fuse(runtime, FUSE)


def test_a_required_plugin_that_is_missing_fails_containers_that_do_not_tolerate_it(
    new_runtime: NewRuntime, tmp_path: Path
) -> None:
    daemon = new_runtime(default_validator=REQUIRED)
    daemon.start()
    if daemon.kind.nri < SINCE:
        assert not has_fuse(daemon, FUSE)  # such a runtime does not know the setting
        return
    assert 'required plugin "device-injector" not present' in refused(daemon, FUSE)
    assert not has_fuse(daemon, {**FUSE, TOLERATED: "true"})
    options = ("--policy", "unrestricted")
    with closing(External("nri-device-injector", daemon, tmp_path / "log", *options)):
        assert has_fuse(daemon, FUSE)
    assert 'required plugin "device-injector" not present' in refused(daemon, FUSE)


def test_doctor_says_what_nris_own_validator_does_to_us(new_containerd: NewContainerd) -> None:
    """From outside of a host its runtime's release is not known, so any runtime says the same."""
    daemon = new_containerd(own_root=True, default_validator=REQUIRED)
    daemon.start()
    (told,) = validator_findings(daemon)
    assert "the runtime requires the plugin device-injector, which is not installed" in told


def test_nris_own_validator_lets_devices_pass_and_rejects_hooks(
    new_runtime: NewRuntime, tmp_path: Path
) -> None:
    """The suite is preinstalled; it has a hook for the containers that ask for one."""
    rules = {"enable": True, "reject_oci_hook_adjustment": True}
    daemon = new_runtime(default_validator=rules)
    hooks = tmp_path / "hooks.d"
    hooks.mkdir()
    hook = {"version": "1.0.0", "hook": {"path": "/bin/true"}, "stages": ["createRuntime"]}
    hook |= {"when": {"annotations": {"^example.com/hook$": "yes"}}}
    (hooks / "true.json").write_text(json.dumps(hook))
    config = f"policy: unrestricted\nunsafe_files: true\nhooks: {{dirs: [{hooks}]}}\n"
    install("nri-inject", daemon, "20-nri-inject", config)
    daemon.start()
    assert has_fuse(daemon, FUSE)
    asking = {**FUSE, "example.com/hook": "yes"}
    if daemon.kind.nri < SINCE:
        assert has_fuse(daemon, asking)
        return
    assert "OCI hook injection" in refused(daemon, asking)


def validator_findings(daemon: Containerd) -> list[str]:
    """Return what `nri-inject doctor` says of the validator on the daemon's host."""
    command = (BIN / "nri-inject", "doctor", "--root", daemon.root, "--format", "json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"]
    return [one["what"] for one in findings if one["check"] == "validator"]
