"""The policy validator: what other plugins want is held against the same rules."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from support.counting import lines_of

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.injectors.giving import read_gifts
from nri_inject.plugin import dispatch, subscription
from nri_inject.plugins.policy_validator import ValidatorService
from nri_inject.policy import document
from nri_inject.service.base import Options
from nri_inject.service.config import Config, NodeFile, Validator

POD = api.Pod(namespace="ci", name="build", labels={"app": "build"})
CONTAINER = api.Container(id="c0", name="main")
NULL = api.LinuxDevice(path="/dev/null", type="c", major=1, minor=3)
FULL = api.LinuxDevice(path="/dev/full", type="c", major=1, minor=7)
NULL_ALLOWED = "rules: [{name: bin, who: {namespaces: [ci]}, allow: {devices: [/dev/null]}}]"


OPENED: list[ValidatorService] = []


@pytest.fixture(autouse=True)
def services_are_closed() -> Iterator[None]:
    """Close the services that a test opened: their watches count against a limit of the kernel."""
    yield
    while OPENED:
        OPENED.pop().close()


def validating(
    policy: str | None = NULL_ALLOWED, tmp: Path | None = None, **more: object
) -> ValidatorService:
    rules = None if policy is None else document.read(policy, "policy", read_gifts)
    config = Config(policy=rules, **more)  # type: ignore[arg-type]  # fields of Config
    dirs = (str(tmp),) if tmp else ("/nowhere",)
    options = Options(idx="95", name="policy-validator", cdi_dir=dirs, hooks_dir=dirs)
    service = ValidatorService(options, config)
    OPENED.append(service)
    service.configure(api.ConfigureRequest(NRI_version="v0.12.0"))
    return service


def request(
    adjust: api.Adjustment,
    owners: Mapping[str, str] = MappingProxyType({}),
    *,
    pod: api.Pod = POD,
    plugins: tuple[str, ...] = (),
) -> api.ValidateContainerAdjustmentRequest:
    """Make a request; `owners` by the name of a field, and devices and mounts are 20-other's."""
    fields = api.FieldOwners()
    for name, plugin in owners.items():
        fields.simple[api.Field.Value(name)] = plugin
    for device in adjust.linux.devices:
        fields.compound[api.Field.Devices].owners[device.path] = "20-other"
    for mount in adjust.mounts:
        fields.compound[api.Field.Mounts].owners[mount.destination] = "20-other"
    known = (plugin.partition("-") for plugin in plugins)
    return api.ValidateContainerAdjustmentRequest(
        pod=pod,
        container=CONTAINER,
        adjust=adjust,
        owners=api.OwningPlugins(owners={"c0": fields}),
        plugins=[api.PluginInstance(index=index, name=name) for index, _, name in known],
    )


def devices(*given: api.LinuxDevice) -> api.Adjustment:
    return api.Adjustment(linux=api.LinuxContainerAdjustment(devices=given))


def reason(service: ValidatorService, asked: api.ValidateContainerAdjustmentRequest) -> str:
    with pytest.raises(RequestError) as caught:
        service.validate(asked)
    return str(caught.value)


def test_it_asks_for_validation_and_nothing_else() -> None:
    plugin = validating().plugin
    assert subscription(plugin) == 1 << (api.Event.VALIDATE_CONTAINER_ADJUSTMENT - 1)


def test_what_a_rule_allows_passes_whoever_asks() -> None:
    validating().validate(request(devices(NULL)))


def test_the_mark_of_a_served_container_needs_no_rule() -> None:
    marked = api.Adjustment(annotations={"served.noderesource.dev/nri-inject": "c0"})
    validating("rules: []").validate(request(marked))
    validating(None).validate(request(marked))


def test_what_no_rule_allows_is_rejected_with_the_plugin_that_asked() -> None:
    assert reason(validating(), request(devices(NULL, FULL))) == (
        "pod ci/build, container main: plugin 20-other: device '/dev/full' (c 1:7): no rule of"
        " policy allows it; a rule that allows it:"
        " {who: {namespaces: [ci]}, allow: {devices: [/dev/full]}}"
    )


def test_a_device_under_an_alias_is_what_the_host_calls_it() -> None:
    alias = api.LinuxDevice(path="/dev/elsewhere", type="c", major=1, minor=3)
    validating().validate(request(devices(alias)))
    denying = "rules: [{deny: {devices: [/dev/null]}}, {allow: {devices: [{type: c, major: 1}]}}]"
    assert reason(validating(denying), request(devices(alias))) == (
        "pod ci/build, container main: plugin 20-other: device '/dev/elsewhere'"
        " (c 1:3, /dev/null): rule '#1' of policy denies it"
    )


def test_a_rejection_is_an_answer_and_no_error() -> None:
    asked = request(devices(FULL))
    answer = dispatch(validating().plugin, "ValidateContainerAdjustment", asked)
    assert isinstance(answer, api.ValidateContainerAdjustmentResponse)
    assert answer.reject
    assert answer.reason.startswith("pod ci/build, container main: plugin 20-other: device ")


def test_a_rule_may_be_for_one_plugin() -> None:
    policy = "rules: [{who: {plugins: [20-*]}, allow: {devices: [/dev/full]}}]"
    validating(policy).validate(request(devices(FULL)))
    policy = "rules: [{who: {plugins: [21-*]}, allow: {devices: [/dev/full]}}]"
    assert "plugin 20-other: device '/dev/full'" in reason(
        validating(policy), request(devices(FULL))
    )


def test_without_a_policy_nothing_of_others_passes() -> None:
    assert "no rule of this node's policy (none configured) allows it" in reason(
        validating(None), request(devices(NULL))
    )


def test_environment_arguments_and_annotations_are_the_containers_own() -> None:
    adjust = api.Adjustment(
        env=[api.KeyValue(key="A", value="1")], args=["sh"], annotations={"a": "b"}
    )
    validating("").validate(request(adjust))


def test_hooks_namespaces_and_resources_need_rules_by_their_names() -> None:
    adjust = api.Adjustment(
        hooks=api.Hooks(poststop=[api.Hook(path="/bin/clean", args=["clean"])]),
        linux=api.LinuxContainerAdjustment(
            namespaces=[api.LinuxNamespace(type="-network")],
            oom_score_adj=api.OptionalInt(value=-900),
            resources=api.LinuxResources(cpu=api.LinuxCPU(cpus="0")),
        ),
    )
    owners = {"OciHooks": "20-a,30-b", "OomScoreAdj": "20-a", "CPUSetCPUs": "40-pin"}
    text = reason(validating(""), request(adjust, owners))
    assert "plugin 20-a,30-b: poststop hook '/bin/clean': no rule" in text
    assert "plugin 20-a: field 'OomScoreAdj': no rule" in text
    assert "plugin 40-pin: field 'CPUSetCPUs': no rule" in text
    assert "plugin unknown: field 'Namespace': no rule" in text
    allowed = "rules: [{allow: {hooks: [/bin/*], fields: [Oom*, Namespace, CPUSetCPUs]}}]"
    validating(allowed).validate(request(adjust, owners))


def test_what_a_plugin_removes_needs_a_rule() -> None:
    adjust = api.Adjustment(
        mounts=[api.Mount(destination="-/proc"), api.Mount(destination="-/data")],
        linux=api.LinuxContainerAdjustment(sysctl={"-net.core.x": ""}),
    )
    asked = request(adjust)
    asked.owners.owners["c0"].compound[api.Field.Mounts].owners["/data"] = "-30-tidy"
    text = reason(validating(""), asked)
    assert "plugin unknown: removal of mount at '/proc': no rule of policy allows it" in text
    assert "plugin 30-tidy: removal of mount at '/data': no rule" in text
    assert "plugin unknown: removal of sysctl 'net.core.x': no rule" in text
    everything = "rules: [{allow: {removals: ['**']}}]"
    assert (
        "removal of mount at '/proc': no rule of policy allows it; the nearest is rule '#1', but it"
        in (reason(validating(everything), asked))
    )
    validating("rules: [{allow: {removals: ['**', /proc]}}]").validate(asked)


def test_access_to_all_devices_by_a_bare_rule_is_rejected() -> None:
    rule = api.LinuxDeviceCgroup(allow=True, type="a", access="rwm")
    adjust = api.Adjustment(
        linux=api.LinuxContainerAdjustment(resources=api.LinuxResources(devices=[rule]))
    )
    anything = "rules: [{allow: {devices: ['/dev/**']}}]"
    assert "access 'rwm' to devices a *:*: it allows all devices of a type" in reason(
        validating(anything), request(adjust)
    )


def test_what_the_suite_itself_gives_needs_no_rule_for_its_parts(tmp_path: Path) -> None:
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "v.com/d",
        "devices": [
            {
                "name": "a",
                "containerEdits": {
                    "deviceNodes": [{"path": "/dev/full"}],
                    "mounts": [{"hostPath": "/usr", "containerPath": "/u", "options": ["ro"]}],
                },
            }
        ],
    }
    (tmp_path / "v.json").write_text(json.dumps(spec))
    pod = api.Pod(
        namespace="ci",
        name="build",
        annotations={"cdi-devices.noderesource.dev/pod": "[v.com/d=a]"},
    )
    service = validating("rules: [{allow: {cdi_devices: [v.com/d=*]}}]", tmp_path)
    adjust = service._environment.injector(
        pod, CONTAINER, service._environment.host(pod, CONTAINER)
    )
    assert adjust.linux.devices[0].path == "/dev/full"
    service.validate(request(adjust, pod=pod))
    more = api.Adjustment()
    more.CopyFrom(adjust)
    more.linux.devices.append(NULL)
    assert "plugin 20-other: device '/dev/null': no rule" in reason(service, request(more, pod=pod))
    # The same parts for a pod that has not asked for the device are another plugin's doing.
    assert "device '/dev/full': no rule" in reason(service, request(adjust))


def test_what_a_rule_gives_needs_no_other_rule_and_the_rest_does() -> None:
    service = validating("rules: [{give: {devices: [/dev/null], env: {A: x}}}]")
    service.validate(request(devices(null_of_host())))
    assert "device '/dev/full': no rule of policy allows it" in reason(
        service, request(devices(null_of_host(), FULL))
    )
    other = null_of_host()
    other.minor = 1  # that of /dev/mem
    assert "device '/dev/null'" in reason(service, request(devices(other)))
    more = devices(null_of_host())
    more.linux.resources.devices.add(
        allow=True, type="c", major={"value": 1}, minor={"value": 3}, access="m"
    )
    assert "device '/dev/null' (c 1:3): no rule of policy allows it" in reason(
        service, request(more)
    )
    refusing = api.Pod(namespace="ci", annotations={"refuse.noderesource.dev": "all"})
    with pytest.raises(RequestError, match="no rule of policy allows it"):
        service.validate(request(devices(null_of_host()), pod=refusing))


def null_of_host() -> api.LinuxDevice:
    """Return the device as the suite gives it, with the owner and the mode of the host's node."""
    status = os.stat("/dev/null")
    device = api.LinuxDevice()
    device.CopyFrom(NULL)
    device.file_mode.value = status.st_mode & 0o7777
    device.uid.value, device.gid.value = status.st_uid, status.st_gid
    return device


def test_warn_mode_lets_pass_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        validating("mode: warn").validate(request(devices(FULL)))
    assert [record.message for record in caplog.records] == [
        (
            "pod ci/build, container main: would be denied: device '/dev/full' (c 1:7): no rule of"
            " policy allows it; a rule that allows it:"
            " {who: {namespaces: [ci]}, allow: {devices: [/dev/full]}}"
        )
    ]


def test_what_would_be_skipped_is_rejected_since_nothing_can_be_taken_out() -> None:
    assert "plugin 20-other: device '/dev/full'" in reason(
        validating("on_deny: skip"), request(devices(FULL))
    )


def test_required_plugins_must_have_been_asked() -> None:
    service = validating(validator=Validator(required_plugins=("device-injector", "20-b")))
    asked = request(api.Adjustment(), plugins=("10-device-injector", "20-b"))
    service.validate(asked)
    text = reason(service, request(api.Adjustment(), plugins=("10-device-injector",)))
    assert text == "pod ci/build, container main: required plugin not there: 20-b"


def test_a_pod_may_require_plugins_by_annotation() -> None:
    pod = api.Pod(
        namespace="ci", name="build", annotations={"required-plugins.noderesource.dev": "[x]"}
    )
    assert reason(validating(), request(api.Adjustment(), pod=pod)).endswith(
        "required plugin not there: x"
    )


def test_a_pod_may_be_let_off_by_the_annotation_that_the_admin_names() -> None:
    pod = api.Pod(namespace="ci", name="build", annotations={"off.example.com": "true"})
    validator = Validator(
        required_plugins=("x",), tolerate_missing_plugins_annotation="off.example.com"
    )
    validating(validator=validator).validate(request(api.Adjustment(), pod=pod))


def test_an_old_runtime_is_told_of_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = validating()
    with caplog.at_level(logging.ERROR):
        service.configure(
            api.ConfigureRequest(runtime_name="containerd", runtime_version="1.7.24~ds1")
        )
    assert caplog.messages == [
        (
            "containerd 1.7.24~ds1 has NRI 0.6.1 and never calls a validator, so nothing is"
            " validated; validators need NRI 0.10.0, first in containerd 2.2.0 and CRI-O 1.34"
        )
    ]


def test_decisions_are_written_down_with_the_plugin_that_asked(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    service = validating(audit=NodeFile(str(file)))
    service.validate(request(devices(NULL)))
    (line,) = file.read_text().splitlines()
    written = json.loads(line)
    assert (written["plugin"], written["decision"], written["rule"], written["outcome"]) == (
        "20-other",
        "allow",
        "bin",
        "accepted",
    )


MOUNTS_ALLOWED = "rules: [{allow: {mounts: [{source: /etc, access: rw}]}}]"


@pytest.mark.slow
def test_what_the_suite_gives_is_told_apart_in_time_that_grows_with_it(tmp_path: Path) -> None:
    service = validating(MOUNTS_ALLOWED, tmp_path)

    def lines(count: int) -> int:
        text = "".join(
            f"- {{source: /etc, destination: /x{n}, type: bind}}\n" for n in range(count)
        )
        pod = api.Pod(namespace="ci", annotations={"mounts.noderesource.dev": text})
        mounts = [api.Mount(source="/etc", destination=f"/x{n}", type="bind") for n in range(count)]
        asked = request(api.Adjustment(mounts=mounts), pod=pod)
        return lines_of(lambda: service.validate(asked))

    lines(10)
    assert lines(400) < 10 * lines(50)


def test_more_than_its_budget_is_rejected_logged_and_audited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "audit.jsonl"
    rules = "\n".join(["- {allow: {sysctl: ['*.x']}}"] * 1000)
    service = validating(f"rules:\n{rules}", tmp_path, audit=NodeFile(str(file)))
    asked = api.Adjustment()
    for number in range(60):
        asked.linux.sysctl[f"net.a{number}.x"] = "1"
    with caplog.at_level(logging.ERROR):
        sentence = reason(service, request(asked))
    assert sentence == (
        "pod ci/build, container main: comparing it with the rules of policy takes more than"
        " 100000 steps, the limit for one container; request fewer or shorter things"
    )
    assert caplog.messages == [f"rejected: {sentence}"]
    assert {json.loads(line)["outcome"] for line in file.read_text().splitlines()} == {"rejected"}
