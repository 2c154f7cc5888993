"""Cases 07, 09 and 29: keys that nobody reads, and keys of other injectors."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.api import Container, Pod
from nri_inject.injectors import cdi, device, giving, keys
from nri_inject.injectors.host import Host
from nri_inject.injectors.keys import KINDS, Adopted, unread
from nri_inject.runtime import manifests
from nri_inject.service.base import Options
from nri_inject.service.config import AnnotationsConfig, Config
from nri_inject.service.injector import InjectorService
from nri_inject.text import yamltext

ALL = frozenset({"crio", "gke", "nvidia", "cdi"})
CONTAINERS = ["main", "side", "tcpxo-daemon"]
MAIN = "noderesource.dev/container.main"


def said(key: str, text: str = "/dev/fuse", adopted: Adopted = frozenset()) -> list[str]:
    found = unread({key: text}, adopted, CONTAINERS)
    return [f"{one.level}: {one.sentence}" for one in found]


READ_BY_NOBODY = {
    # what it is for, misspelt
    f"device.{MAIN}": f"devices.{MAIN}",
    f"devics.{MAIN}": f"devices.{MAIN}",
    f"usb.{MAIN}": f"devices.{MAIN}",
    f"rlimits.{MAIN}": f"ulimits.{MAIN}",
    f"ulimit.{MAIN}": f"ulimits.{MAIN}",
    f"cdi.{MAIN}": f"cdi-devices.{MAIN}",
    f"cdi-device.{MAIN}": f"cdi-devices.{MAIN}",
    f"gpu.{MAIN}": f"cdi-devices.{MAIN}",
    f"sysctls.{MAIN}": f"sysctl.{MAIN}",
    "mount.noderesource.dev/pod": "mounts.noderesource.dev/pod",
    "scheduler.noderesource.dev": "scheduling-policy.noderesource.dev",
    f"device.noderesource.dev/containers.{CONTAINERS[0]}": f"devices.{MAIN}",
    # the domain
    "devices.noderesources.dev/container.main": f"devices.{MAIN}",
    "devices.nodresource.dev/container.main": f"devices.{MAIN}",
    "devices.noderesource.io/pod": "devices.noderesource.dev/pod",
    "devices.node-resource.dev/pod": "devices.noderesource.dev/pod",
    "devices.nri.containerd.io/pod": "devices.noderesource.dev/pod",
    "ulimits.nri.io/pod": "ulimits.noderesource.dev/pod",
    "device.nri.io": "devices.noderesource.dev",
    # the slash
    "devices.noderesource.dev.container.main": f"devices.{MAIN}",
    "devices.noderesource.dev.pod": "devices.noderesource.dev/pod",
    "noderesource.dev/devices": "devices.noderesource.dev",
}


@pytest.mark.parametrize("key", READ_BY_NOBODY)
def test_a_key_that_is_nearly_ours_is_told_by_ours(key: str) -> None:
    assert said(key) == [f"wrong: no plugin reads it; did you mean {READ_BY_NOBODY[key]}?"]


ENDINGS = {
    "containers.main": "container.main",
    "Container.main": "container.main",
    "container-main": "container.main",
    "container/main": "",
    "initContainer.main": "container.main",
    "main": "container.main",
    "side": "container.side",
    "pods": "pod",
    "all": "pod",
    "Pod": "pod",
    "container.": "",
    "nothing": "",
    "": "",
}


@pytest.mark.parametrize("kind", ["devices", "mounts", "cdi-devices"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_another_end_of_a_key_of_ours_is_a_fault(kind: str, ending: str) -> None:
    prefix, near = f"{kind}.noderesource.dev", ENDINGS[ending]
    hint = f"; did you mean {prefix}/{near}?" if near else ""
    assert said(f"{prefix}/{ending}") == [f"fault: its end must be /container.NAME or /pod{hint}"]
    injector = cdi.inject if kind == "cdi-devices" else device.inject
    pod = Pod(namespace="ns", name="p", annotations={f"{prefix}/{ending}": ""})
    with pytest.raises(Exception, match="pod ns/p, container main: annotation") as caught:
        injector(pod, Container(name="main"), Host({}))
    assert f"annotation {prefix}/{ending}: its end must be" in str(caught.value)


def test_a_container_that_the_pod_lacks_is_told() -> None:
    assert said("devices.noderesource.dev/container.mian") == [
        f"wrong: the pod has no container 'mian'; did you mean devices.{MAIN}?"
    ]
    assert said("devices.nri.io/container.qqq") == [
        "wrong: the pod has no container 'qqq'; it has main, side, tcpxo-daemon"
    ]
    assert unread({"devices.noderesource.dev/container.mian": ""}) == []  # a plugin knows none


def test_a_key_that_another_one_hides_is_told() -> None:
    found = unread({"devices.noderesource.dev": "", "devices.noderesource.dev/pod": ""})
    assert [str(one) for one in found] == [
        (
            "annotation devices.noderesource.dev: it is not read, since"
            " devices.noderesource.dev/pod comes first"
        )
    ]


@pytest.mark.parametrize(
    "key",
    [
        *("devices.noderesource.dev", f"devices.{MAIN}", "mounts.nri.io/pod", f"sysctl.{MAIN}"),
        *("ulimits.nri.containerd.io/pod", "cdi-devices.nri.io", "exclusive-cpus.noderesource.dev"),
        *("required-plugins.noderesource.dev", "closid.rdt.noderesource.dev/pod"),
        *("writable-cgroups.noderesource.dev/pod", "identity.noderesource.dev/container.main"),
        *("prometheus.io/scrape", "networking.gke.io/interfaces", "k8s.v1.cni.cncf.io/networks"),
        *("class.memory-qos.nri.io/pod", "balloon.balloons.resource-policy.nri.io/pod", "device"),
        *(
            "io.kubernetes.cri-o.userns-mode",
            "seccomp-profile.kubernetes.cri-o.io",
            "nvidia.com/gpu",
        ),
        *("container.apparmor.security.beta.kubernetes.io/main", "io.katacontainers.config.x/y"),
    ],
)
def test_a_key_of_ours_or_of_another_purpose_is_passed_over(key: str) -> None:
    assert said(key) == []


def test_another_kind_in_our_domain_is_only_noted() -> None:
    (sentence,) = said("frob.noderesource.dev/pod")
    assert sentence.startswith("note: no plugin of nri-inject reads it; it reads devices, cdi-dev")


def test_the_prefixes_are_those_of_the_injectors() -> None:
    prefixes = [(kind.prefix, kind.old_prefix) for kind in device.KINDS]
    prefixes.append((cdi.PREFIX, cdi.OLD_PREFIX))
    for pair in prefixes:
        assert all(map(keys.is_ours, filter(None, pair)))
    prefixes += [(giving.REFUSE, ""), (giving.PROFILES, "")]
    assert {new.partition(".")[0] for new, _ in prefixes} | {"exclusive-cpus"} == {*KINDS}


# --- keys of others -------------------------------------------------------------------------------

SWITCH = "or let the node's admin switch it on in the configuration: annotations: {{{}: true}}"
TRANSLATED = {
    ("io.kubernetes.cri-o.Devices", "/dev/fuse,/dev/net/tun"): (
        *("CRI-O's", "crio", 'devices.noderesource.dev/pod: "[/dev/fuse, /dev/net/tun]"'),
    ),
    ("devices.crio.io", "/dev/null:/dev/x:rwm"): (
        *("CRI-O's", "crio", 'devices.noderesource.dev/pod: "[{device: /dev/null, as: /dev/x}]"'),
    ),
    ("devices.crio.io", "/dev/sda:/dev/sda:r, /dev/fuse"): (
        *("CRI-O's", "crio"),
        'devices.noderesource.dev/pod: "[{device: /dev/sda, access: r}, /dev/fuse]"',
    ),
    ("io.kubernetes.cri-o.devices", "/dev/fuse"): (
        *("CRI-O's", "crio", 'devices.noderesource.dev/pod: "[/dev/fuse]"'),
    ),
    ("devices.gke.io/container.tcpxo-daemon", "- path: /dev/nvidia0\n- path: /dev/nvidiactl\n"): (
        *("GKE's", "gke"),
        'devices.noderesource.dev/container.tcpxo-daemon: "[/dev/nvidia0, /dev/nvidiactl]"',
    ),
    ("nvidia.cdi.k8s.io/container.main", "management.nvidia.com/gpu=all"): (
        *("NVIDIA's", "nvidia", f'cdi-devices.{MAIN}: "[management.nvidia.com/gpu=all]"'),
    ),
    ("cdi.k8s.io/vfio17", "acme.com/pgpu=17,acme.com/pgpu=18"): (
        *("CDI's", "cdi"),
        'cdi-devices.noderesource.dev/pod: "[acme.com/pgpu=17, acme.com/pgpu=18]"',
    ),
}


@pytest.mark.parametrize(("key", "text"), TRANSLATED)
def test_a_key_of_others_is_told_by_ours(key: str, text: str) -> None:
    whose, word, ours = TRANSLATED[key, text]
    assert said(key, text) == [
        f"note: the key is {whose}, and is not read here; write {ours}, {SWITCH.format(word)}"
    ]
    # It is an annotation as it stands, with a value that our readers take.
    written = yamltext.load(ours)
    assert isinstance(written, dict)
    ((our_key, value),) = written.items()
    assert keys.is_ours(our_key.partition("/")[0])
    assert isinstance(yamltext.load(str(value)), list)


@pytest.mark.parametrize(("key", "text"), TRANSLATED)
def test_a_key_of_others_that_is_switched_on_is_not_told(key: str, text: str) -> None:
    if key != "io.kubernetes.cri-o.devices":  # which CRI-O does not read either
        assert said(key, text, ALL) == []


def test_a_key_of_others_that_is_spelt_wrong_is_told_when_it_is_switched_on() -> None:
    assert said("io.kubernetes.cri-o.devices", "/dev/fuse", ALL) == [
        "wrong: CRI-O's key is devices.crio.io or io.kubernetes.cri-o.Devices, written so"
    ]
    assert said("devices.gke.io/main", "", ALL) == [
        "wrong: GKE's key is devices.gke.io/container.NAME, written so"
    ]
    assert said("devices.gke.io/container.mian", "", ALL) == [
        "wrong: the pod has no container 'mian'; did you mean devices.gke.io/container.main?"
    ]


# --- the log --------------------------------------------------------------------------------------


def test_the_log_tells_once_of_a_pod(caplog: pytest.LogCaptureFixture) -> None:
    service = InjectorService((), Options(idx="10", name="x"), Config(policy="unrestricted"))
    annotations = {"devices.crio.io": "/dev/fuse", "device.noderesource.dev": "[]"}
    pod = Pod(id="1", namespace="ns", name="p", annotations=annotations)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b"):
            assert service.create_container(pod, Container(id=name, name=name)) is None
        service.create_container(Pod(id="2", namespace="ns", name="q"), Container(name="a"))
    assert [record.getMessage().partition(": the key")[0] for record in caplog.records] == [
        (
            "pod ns/p: annotation device.noderesource.dev: no plugin reads it; did you mean"
            " devices.noderesource.dev?"
        ),
        "pod ns/p: annotation devices.crio.io",
    ]


@pytest.mark.parametrize(
    ("key", "name", "is_told"),
    [
        ("devices.noderesource.dev/container.mian", "main", True),
        ("devices.noderesource.dev/container.zigbee2mqt", "zigbee2mqtt", True),
        ("mounts.nri.io/container.sidcar", "sidecar", True),
        ("devices.noderesource.dev/container.app-1", "app-2", False),
        ("devices.noderesource.dev/container.web", "proxy", False),
        ("devices.noderesource.dev/pod", "main", False),
    ],
)
def test_the_log_tells_of_a_container_with_nearly_that_name(
    key: str, name: str, is_told: bool
) -> None:
    """A plugin does not know all containers of a pod; the name of one that comes may be meant."""
    found = [*keys.for_a_container_like({key: ""}, name)]
    assert len(found) == is_told
    own = key.partition(".")[0] + f".noderesource.dev/container.{name}"
    assert [*keys.for_a_container_like({key: "", own: ""}, name)] == []
    assert all(f"did you mean {own}?" in one.sentence for one in found)


def test_the_configuration_has_a_word_for_each_of_the_others() -> None:
    assert AnnotationsConfig().adopted == {"cdi"}
    assert AnnotationsConfig(crio=True, gke=True, nvidia=True).adopted == ALL
    assert {other.word for other in keys.OTHERS} | {keys.CDI} == ALL


# --- generated ------------------------------------------------------------------------------------

letters = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@given(st.sampled_from(KINDS), st.data())
def test_one_wrong_letter_in_a_key_is_told(kind: str, data: st.DataObject) -> None:
    key = f"{kind}.{MAIN}"
    at = data.draw(st.integers(0, len(key) - 1))
    changed = data.draw(st.sampled_from(["", "x", key[at] * 2]))
    spelt = key[:at] + changed + key[at + 1 :]
    if spelt == key or "/" not in spelt:
        return
    (sentence,) = said(spelt)
    assert (
        key in sentence
        or "ends" in sentence
        or "no container" in sentence
        or "end must" in sentence
    )


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=20))
def test_whatever_the_keys_nothing_breaks(annotations: dict[str, str]) -> None:
    for one in unread(annotations, frozenset(), CONTAINERS):
        assert str(one).isprintable()


def test_a_thousand_odd_keys_are_a_few_lines() -> None:
    annotations = {f"x{number}.noderesource.dev/pod": "" for number in range(5000)}
    assert len(unread(annotations)) == keys.MAX_UNREAD


FILES = Path(__file__).parent / "files"


def test_every_annotation_of_case_07_is_told() -> None:
    (planned,) = manifests.read((FILES / "07" / "keys.yaml").read_text(), "keys.yaml")[1:]
    annotations = {k: v for k, v in planned.pod.annotations.items() if ".cri." not in k}
    assert len(annotations) == 10
    assert len(unread(annotations, frozenset({"cdi"}), ["main"])) == 10
