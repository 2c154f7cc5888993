"""Each recipe of docs/recipes, as its page has it, on a real containerd.

The pod, the rule, the files of the node and the commands with their output are read from the page.
This machine has no such hardware. So the containerd has a root of its own, the plugin looks for
devices in a tree below it, and the nodes there have numbers of devices that can be opened here: the
sticks and GPUs are consoles (4:60 and following). Every image is busybox.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from support import machine
from support.machine import Fake
from support.pages import ROOT, Block, blocks, commands

from .conftest import NewContainerd
from .containerd import Containerd
from .cri import CriError
from .kubelet import Kubelet
from .plugin import External

RECIPES = ROOT / "docs" / "recipes"
DATE = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d")
STICK = "serial/by-id/usb-ITead_Sonoff_Zigbee_3.0_USB_Dongle_Plus_0001-if00-port0"


class Recipe:
    """A page, a node that has what it needs, and the pods that were made from it."""

    def __init__(self, page: str, daemon: Containerd, place: Path) -> None:
        self.blocks = blocks(ROOT / page)
        self.daemon = daemon
        self.root = daemon.root
        self._place = place
        self.kubelet = Kubelet(daemon, place)
        self.containers: dict[str, dict[str, str]] = {}
        self.policy = place / "policy.yaml"
        self.policy.write_text("rules: []\n")
        for block in self.blocks:
            self._install(block)

    def _install(self, block: Block) -> None:
        """Put a file of the node where the page says: a CDI spec or a hook file."""
        if block.language == "yaml" and "cdiVersion" in block.text:
            self.write("etc/cdi/page.yaml", block.text)
        if block.language == "json" and '"hook"' in block.text:
            self.write("etc/containers/oci/hooks.d/page.json", block.text)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def device(self, name: str, number: tuple[int, int], mode: int = 0o660, **facts: Any) -> None:
        """Give the node a character device: a node in /dev, and the kernel's files about it."""
        given = {"syspath": f"/devices/virtual/misc/{Path(name).name}", "subsystem": "misc"} | facts
        fake = Fake(node=name, number="{}:{}".format(*number), **given)
        machine.write(self.root, [fake])
        path = self.root / "dev" / name
        path.unlink()
        os.mknod(path, stat.S_IFCHR, os.makedev(*number))
        path.chmod(mode)

    def documents(self, key: str) -> list[dict[str, Any]]:
        """Return the page's YAML documents that have a key."""
        found = [yaml.safe_load(block.text) for block in self.blocks if block.language == "yaml"]
        return [document for document in found if key in document]

    def output(self, word: str) -> str:
        """Return the page's output of the command that has a word in it."""
        (found,) = (
            command.output.strip()
            for block in self.blocks
            if block.language == "console"
            for command in commands(block)
            if word in command.text
        )
        return found

    def applets(self, *names: str) -> None:
        """Give the node programs of busybox."""
        for name in names:
            (self.root / "bin" / name).symlink_to("busybox")

    def cpus(self, container: str) -> set[int]:
        """Return the CPUs that a container may run on."""
        return os.sched_getaffinity(self.daemon.cri.details(container)["pid"])

    def start(
        self, command: str = "nri-inject run", files: Mapping[str, Path] = MappingProxyType({})
    ) -> External:
        """Start the daemon and a plugin; `files` are further files of the image."""
        config = self._place / "config.yaml"
        settings: dict[str, Any] = {
            "host_root": str(self.root),
            "policy": {"file": str(self.policy)},
            "cdi": {"dirs": [str(self.root / "etc/cdi")]},
            "hooks": {"host_root": str(self.root)},
        }
        config.write_text(json.dumps(settings))
        self.daemon.start()
        if files:
            self.daemon.load_image(files=files)
        log = self._place / "plugin.log"
        return External(command, self.daemon, log, "--config", str(config))

    def apply(self) -> None:
        """Run the page's pods: where it has a rule, the first of them fails without the rule."""
        pods = self.documents("spec")
        rules = self.documents("rules")
        if rules:
            with pytest.raises(CriError, match=r"no rule of .* allows it; a rule that allows it: "):
                self.kubelet.apply(pods[0])
            self.daemon.cri.remove_all()
            self.policy.write_text(json.dumps(rules[0]))
        for pod in pods:
            self.containers[pod["metadata"]["name"]] = self.kubelet.apply(pod)

    def check(self, section: str = "## Check it", **numbers: str) -> None:
        """Run what `kubectl exec` runs in a section's console blocks, and compare the output.

        `numbers` are those of the page's devices and of this machine's, with _ for the colon.
        """
        for block in self.blocks:
            if block.language != "console" or block.section != section:
                continue
            for command in commands(block):
                words = shlex.split(command.text)
                if "exec" not in words:
                    continue
                split = words.index("--")
                (container,) = self.containers[words[split - 1]].values()
                expected = command.output
                for old, new in numbers.items():
                    expected = expected.replace(old.replace("_", ":"), new)
                result = self.daemon.cri.exec(container, *words[split + 1 :])
                shown = DATE.sub("DATE", result.stdout), result.stderr
                assert shown == (DATE.sub("DATE", expected), ""), command.text


MakeRecipe = Callable[[str], Recipe]


@pytest.fixture
def recipe(new_containerd: NewContainerd, tmp_path: Path) -> MakeRecipe:
    def make(page: str) -> Recipe:
        return Recipe(page, new_containerd(own_root=True, own_network=True), tmp_path)

    return make


def test_zigbee2mqtt(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/zigbee2mqtt.md")
    port = "/devices/pci0000:00/usb1/1-1/1-1:1.0/ttyUSB0/tty"
    page.device("ttyUSB0", (4, 60), syspath=f"{port}/ttyUSB0", subsystem="tty", links=(STICK,))
    with closing(page.start()):
        page.apply()
        page.check(bc_0="4:3c")
        # Pulled out, and plugged in again while the old number is still in use.
        (page.root / "dev/ttyUSB0").unlink()
        page.device("ttyUSB1", (4, 61), syspath=f"{port}/ttyUSB1", subsystem="tty", links=(STICK,))
        page.check(bc_0="4:3c")
        page.containers["zigbee2mqtt"]["zigbee2mqtt"] = page.kubelet.start(
            "zigbee2mqtt", "zigbee2mqtt"
        )
        page.check("## When the stick is pulled out and plugged in again", bc_1="4:3d")


def test_the_first_screen(recipe: MakeRecipe) -> None:
    page = recipe("README.md")
    page.device("fuse", (10, 229), mode=0o666)
    with closing(page.start()):
        page.apply()
        page.check("")


def test_vpn(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/vpn.md")
    page.device("net/tun", (10, 200))
    with closing(page.start()):
        page.apply()
        page.check()
    assert not Path("/sys/class/net/tun9").exists()


@pytest.fixture
def user_namespaces() -> Iterator[None]:
    """Let users make user namespaces, which Ubuntu's AppArmor restricts from 23.10 on."""
    switch = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    before = switch.read_text() if switch.exists() else ""
    if before:
        switch.write_text("0")
    yield
    if before:
        switch.write_text(before)


@pytest.mark.usefixtures("user_namespaces")
def test_fuse_builder(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/fuse-builder.md")
    page.device("fuse", (10, 229))
    with closing(page.start()):
        page.apply()
        page.check()


def test_gpu(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/gpu.md")
    for minor, name in enumerate(("nvidia0", "nvidiactl", "nvidia-modeset", "nvidia-uvm"), 60):
        page.device(name, (4, minor))
    # The driver's programs: one lists the GPUs after it has opened each node, one is the hook.
    opened = "for node in /dev/nvidia*; do exec 3<>$node || exit 1; done"
    shown = page.output("nvidia-smi")
    page.write("usr/bin/nvidia-smi", f"#!/bin/sh\n{opened}\necho '{shown}'\n", 0o755)
    page.write("usr/bin/nvidia-cdi-hook", '#!/bin/sh\necho "$1" >> /run/hooks\n', 0o755)
    page.write("usr/lib/libcuda.so.570.86.15", "")
    with closing(page.start()):
        page.apply()
        page.check()
    assert (page.root / "run/hooks").read_text() == "create-symlinks\nupdate-ldcache\n"


def test_rdma(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/rdma.md")
    place = "/devices/pci0000:00/0000:03:00.0"
    for minor, (kind, name) in enumerate((("verbs", "uverbs0"), ("mad", "umad0")), 60):
        page.device(
            f"infiniband/{name}",
            (4, minor),
            syspath=f"{place}/infiniband_{kind}/{name}",
            subsystem=f"infiniband_{kind}",
        )
    page.device("infiniband/rdma_cm", (4, 62))
    with closing(page.start()):
        page.apply()
        page.check()


def test_ldconfig_hook(recipe: MakeRecipe, tmp_path: Path) -> None:
    page = recipe("docs/recipes/ldconfig-hook.md")
    programs = page.root / "usr/libexec/oci/hooks.d/nri-inject"
    shutil.copytree(ROOT / "hooks/bin", programs)
    page.applets("awk", "cat", "dirname", "timeout", "logger", "tr", "cut", "head", "mkfifo", "rm")
    (page.root / "sbin").mkdir(exist_ok=True)
    shutil.copy2("/sbin/ldconfig", page.root / "sbin/ldconfig")
    # A library of this machine under another name of the same length.
    (library,) = Path("/lib").glob("*-linux-gnu/libresolv.so.2")
    renamed = library.read_bytes().replace(b"libresolv.so.2\0", b"libvendor.so.2\0")
    (page.root / "opt/vendor/lib").mkdir(parents=True)
    (page.root / "opt/vendor/lib/libvendor.so.2").write_bytes(renamed)
    (tmp_path / "ld.so.conf").write_text("/usr/local/lib\n")
    image = {"bin/ldconfig": Path("/sbin/ldconfig"), "etc/ld.so.conf": tmp_path / "ld.so.conf"}
    with closing(page.start(files=image)):
        page.apply()
        page.check()


@pytest.mark.min_cpus(2)
def test_exclusive_cpus(recipe: MakeRecipe) -> None:
    page = recipe("docs/recipes/exclusive-cpus.md")
    with closing(page.start("nri-resource-assigner")):
        shared = page.daemon.cri.run(page.daemon.cri.run_pod("shared"), "main")
        page.apply()
        page.check()
        (exclusive,) = page.containers["trading"].values()
        assert not page.cpus(exclusive) & page.cpus(shared)


def test_every_recipe_is_in_the_list_and_has_a_test() -> None:
    pages = sorted(path.name for path in RECIPES.glob("*.md") if path.name != "README.md")
    table = re.findall(r"^\| \[.*\]\((.*)\)", (RECIPES / "README.md").read_text(), re.MULTILINE)
    assert sorted(table) == pages
    tested = re.findall(r'recipe\("docs/recipes/(.*\.md)"\)', Path(__file__).read_text())
    assert sorted(tested) == pages
