"""Every fenced block of the documentation is run, read by the reader of its kind, or compared.

A block that is none of these has `<!-- fragment: reason -->` on the line before it; at most ten
have, and none of them has a command. What a machine cannot run here, because it needs a real
runtime, is in `ON_A_RUNTIME` with the end-to-end test that does. `python tests/test_blocks.py`
prints the count.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from support.annotated import host_with_everything, read_requests
from support.machine import machine, write
from support.pages import PAGES, ROOT, Block, Command, blocks, commands
from support.trying import NO_NODE
from support.umockdev import open_umockdev

from nri_inject import cli
from nri_inject.api import Container, Pod
from nri_inject.cdi import registry
from nri_inject.errors import RequestError
from nri_inject.hooks import hook_file
from nri_inject.injectors.device import inject
from nri_inject.injectors.giving import read_gifts
from nri_inject.injectors.host import Host
from nri_inject.plugins import programs
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.source import DENY_ALL
from nri_inject.runtime import manifests
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.command import parser
from nri_inject.wire import recording

BLOCKS = [block for page in PAGES for block in blocks(page)]
MAX_FRAGMENTS = 10
BIN = Path(sys.executable).parent
EXAMPLE = ROOT / "examples" / "02-devices"
NAMED = re.compile(r"# (\S+\.(?:yaml|conf))\n")

# Commands that tests run on a real runtime, and the test.
ON_A_RUNTIME = {
    r"nri-inject (install|uninstall)": "test_install",
    r"nri-logger": "test_log_events",
    r"nri-differ": "test_see_what_changed",
    r"nri-resource-assigner": "test_pin_cpus",
    r"nri-device-injector": "test_a_character_device_named_by_path_alone_can_be_opened",
    r"nri-inject cdi generate": "test_generated_specs_follow_the_hardware",
    r"nri-inject status": "test_a_faulty_version_never_takes_over_a_service",
    r"curl .* http://127.0.0.1:9464/": "test_the_pages_on_a_runtime",
    r"nri-inject upgrade": "test_the_command_says_what_became_of_each_plugin",
    r"nri-inject new": "test_a_project_is_complete_and_its_tests_pass",
    r"(ctr|helm) ": "test_a_pod_has_its_device",
    r"make demo": "test_output_has_the_words_of_the_programs",
}
# Programs that tests do not start: they change the machine, or need another one. The files of the
# repository that they name exist.
VALUES = ROOT / "deploy" / "chart" / "values.schema.json"
NOT_RUN = {
    *("make", "systemctl", "journalctl", "kubectl", "helm", "git", "go", "cd", "python"),
    *("nano", "modprobe", ".venv/bin/python", "pre-commit", "gh"),
}
SHELL = {"install", "ln", "mv", "cat", "chmod", "echo", "mkdir", "["}

# What the pods of errors request, by namespace.
REQUESTS = {
    "ci": "- path: /dev/fuse",
    "default": "- {path: /dev/x, type: c, major: ten, minor: 1}\n- null",
}

# Output, by a part of it, and the file that has or asserts the same words.
OUTPUT = {
    "GREETING=hello, main of web": "tests/test_examples.py",
    "recorded is": "tests/testing/test_fake.py",
    ": exclusive CPUs ": "nri_inject/plugins/resource_assigner/plugin.py",
    "is too low for the fields that the spec uses; raise it to": "nri_inject/cdi/spec.py",
    "the hook has no env, so": "nri_inject/cdi/lint.py",
    "no CDI device '": "tests/e2e/test_cdi.py",
    "is always shared; request fewer, or use": "nri_inject/plugins/resource_assigner/pools.py",
    "a container starts without the plugin if it does not answer": "tests/cli/test_cli_node.py",
    "failed to handle CreateContainer request: context deadline exceeded": (
        "tests/runtime/test_go_adaptation.py"
    ),
    "exit status 7, stdout: , stderr: no": "tests/e2e/test_hooks.py",
    "not upgraded, version ": "nri_inject/service/parent/upgrade.py",
    "it was created without the plugin": "nri_inject/service/health/missed.py",
    "stale, because /dev/zigbee is now 188:1": "tests/service/health/test_stale.py",
    "stopped for the kubelet to create it anew (": "nri_inject/service/health/restart.py",
    "(SIGSEGV); its log on the node has more; change what the pod asks for, or update": (
        "tests/service/parent/test_relay.py"
    ),
    "may not request devices: annotation": "deploy/chart/templates/admission.yaml",
    "; another one takes over": "nri_inject/service/parent/process.py",
}


def of(*languages: str) -> list[Block]:
    """Return the blocks in these languages that are no fragments."""
    return [block for block in BLOCKS if block.language in languages and not block.reason]


def titled(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", of(*languages), ids=lambda block: block.title)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return host_with_everything(tmp_path_factory.mktemp("host"))


# --- data -----------------------------------------------------------------------------------------


@titled("yaml")
def test_yaml_is_read_by_the_reader_of_its_kind(block: Block, host: Host) -> None:
    value = yaml.safe_load(block.text)
    if block.text.startswith("# values.yaml\n"):
        jsonschema.validate(value, json.loads(VALUES.read_text()))
    elif "rules" in value or "profiles" in value:
        assert document.read(block.text.encode(), block.title, read_gifts).rules
    elif "cdiVersion" in value:
        spec = registry.read("page.yaml", "/etc/cdi", block.text.encode())
        assert not spec.errors, spec.errors
    elif "spec" in value:
        planned = manifests.read(block.text, block.title)
        read_requests(planned[0].pod.annotations, host)
    elif "metadata" in value:
        read_requests(value["metadata"]["annotations"], host)
    elif any("/" in key or ".noderesource.dev" in key for key in value):
        read_requests(value, host)
    elif "event" in value:  # of the logger
        assert {"time", "event", "pod"} <= set(value)
    else:
        config.read(block.text, block.title)


@titled("json")
def test_json_has_keys_that_a_program_writes_or_is_a_hook_file(block: Block) -> None:
    if '"hook"' in block.text:
        assert not hook_file.read(block.text.encode()).faults
        return
    """The keys of a container's state are the OCI runtime's: end-to-end tests read them."""
    files = [*(ROOT / "nri_inject").rglob("*.py"), *(ROOT / "tests/e2e").glob("*.py")]
    source = "".join(path.read_text() for path in files)
    for line in block.text.splitlines():
        assert [key for key in json.loads(line) if f'"{key}"' not in source] == []


@titled("toml", "ini")
def test_settings_are_sound(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
    assert_program_paths(block.text)


def assert_program_paths(text: str) -> None:
    """Programs of ours are where an installation puts them."""
    for path in re.findall(r"/opt/nri-inject/[^\s\"]*", text):
        assert path.startswith(("/opt/nri-inject/current/", "/opt/nri-inject/0.")), path


# --- programs in Python ---------------------------------------------------------------------------


@pytest.mark.slow
def test_python_blocks_have_sound_types(tmp_path: Path) -> None:
    """The blocks of a page are one module; `greeter` is what `nri-inject new` makes."""
    run("nri-inject new greeter", tmp_path)
    files: list[str] = []
    for page in sorted({block.page for block in of("python")}):
        name = re.sub(r"\W", "_", page)
        text = "\n".join(block.text for block in of("python") if block.page == page)
        (tmp_path / "greeter" / f"{name}.py").write_text(text)
        files.append(f"{name}.py")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", *files],
        cwd=tmp_path / "greeter",
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_the_test_of_a_page_passes_in_a_new_project(tmp_path: Path) -> None:
    run("nri-inject new greeter", tmp_path)
    first = next(block for block in of("python") if block.page == "docs/test-a-plugin.md")
    (tmp_path / "greeter" / "test_page.py").write_text(first.text)
    run(f"{sys.executable} -m pytest -q -p no:cacheprovider", tmp_path / "greeter")


def run(line: str, directory: Path) -> None:
    """Run lines of shell with our programs on PATH; they must succeed."""
    path = f"{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", line],
        cwd=directory,
        env=os.environ | {"PATH": path, "REPORTED": "yes"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- commands -------------------------------------------------------------------------------------


class Node:
    """A directory in the place of a node: the page's files, and the devices of the tests."""

    def __init__(self, page: str, root: Path) -> None:
        self.root = root
        write(root, machine())
        self._write("usr/local/libexec/note-start", "#!/bin/sh\n", 0o755)
        self._write("etc/containerd/config.toml", "version = 2\n")
        for block in BLOCKS:
            if block.page == page and '"hook"' in block.text:
                self._write("note-start.json", block.text)
                self._write("etc/containers/oci/hooks.d/note-start.json", block.text)
            if block.page == page and (named := NAMED.match(block.text)):
                self._write(named[1], block.text)
                self._write(Path(named[1]).name, block.text)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def options(self, words: list[str]) -> list[str]:
        """Return the options by which a command looks at this node, and not at the machine."""
        match words[:2]:
            case ["cdi", "list" | "resolve" | "monitor"]:
                return ["--cdi-dir", str(self.root / "etc/cdi")]
            case ["hooks", "match" | "list"]:
                return ["--host-root", str(self.root)]
            case ["doctor", *_]:
                return ["--root", str(self.root), "--runtime", "containerd"]
            case ["try" | "policy", *_]:
                return ["--unsafe-files"]
        return []

    def nri_inject(self, words: list[str]) -> click.testing.Result:
        depth = 1 if words[0] in ("try", "doctor") else 2
        given = [*words[:depth], *self.options(words), *words[depth:]]
        return CliRunner().invoke(cli.program, given)

    def local(self, text: str) -> str:
        """Return a text with absolute paths of a node as paths of this directory."""
        return re.sub(
            r"(?<![\w./])/(?=(?:etc|usr/local|usr/libexec|var|opt)/)", f"{self.root}/", text
        )


def on_a_runtime(text: str, page: str) -> bool:
    """Tell whether a test runs the command on a runtime; `kubectl exec` is run for recipes."""
    if re.match(r"kubectl .*\bexec\b", text):
        assert f'recipe("{page}")' in (ROOT / "tests/e2e/test_recipes.py").read_text(), page
        return True
    return any(re.search(form, text) for form in ON_A_RUNTIME)


def first_word(text: str) -> str:
    words = [word for word in shlex.split(text) if "=" not in word.split("/")[0]]
    return words[0].removeprefix("dist/nri-inject/") if words else ""


def check_usage(text: str) -> None:
    """Hold a command line of ours against the options of the program; nothing runs."""
    line = text.partition(" | ")[0].partition(" && ")[0]
    words = shlex.split(line)
    name = Path(words.pop(0)).name
    context: click.Context | None = None
    if name == "nri-inject":
        command: click.Command = cli.program
        context = click.Context(command, **command.context_settings)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, text
            command = found
    else:
        plugin = programs.load(name)
        command = parser(plugin, Options(idx=plugin.idx, name=plugin.name), name)
    with suppress(click.BadParameter):  # a file of the page's node does not exist here
        command.make_context(name, words, parent=context)


@pytest.mark.slow
@titled("console")
def test_commands_are_run_or_run_on_a_runtime(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(block.page, tmp_path)
    for command in commands(block):
        check_command(command, node, block, monkeypatch)


def check_command(
    command: Command, node: Node, block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = first_word(command.text)
    if word in programs.PROGRAMS:
        check_usage(command.text)
    if on_a_runtime(command.text, block.page):
        return
    if command.text.startswith("nri-inject devices"):
        looked = open_umockdev(node.root)
        words = [str(BIN / "nri-inject"), *shlex.split(command.text)[1:]]
        status = int("explain" in words)  # the page explains a selector that matches nothing
        assert looked.run(machine(), *words, status=status) == command.output
    elif word == "nri-inject":
        monkeypatch.chdir(ROOT if "examples/" in command.text else node.root)
        result = node.nri_inject(shlex.split(command.text)[1:])
        # The page's node has the files and devices that its specs name; this machine has not.
        lines = result.stdout.replace(str(node.root), "").splitlines(keepends=True)
        shown = "".join(line for line in lines if not line.startswith("warning: "))
        if command.output:
            assert shown == command.output
        else:
            assert result.exit_code in (0, 1), shown
    elif word in SHELL:
        of_ours = any((ROOT / word).is_file() for word in shlex.split(command.text))
        run(node.local(command.text), ROOT if of_ours else node.root)
    else:
        assert word in NOT_RUN, f"{block.title}: no test runs `{command.text}`"
        if word == "make":
            makefile = (ROOT / "Makefile").read_text()
            for target in re.findall(r"[a-z]+", command.text)[1:]:
                assert f"\n{target}:" in makefile, command.text
        named = re.findall(r"(?<=\s)(?:deploy|docs|tests|examples)/[\w./-]+", command.text)
        assert [path for path in named if not (ROOT / path).exists()] == []
    assert_program_paths(command.text)


@pytest.mark.slow
@titled("sh")
def test_shell_blocks_run(block: Block, tmp_path: Path) -> None:
    """Lines of ours are held against the program's options: other tests run the program."""
    node = Node(block.page, tmp_path)
    if block.page == "hooks/README.md":
        shutil.copytree(ROOT / "hooks", tmp_path, dirs_exist_ok=True)
    ours = re.findall(r"^nri-inject .*$", block.text, re.MULTILINE)
    for line in ours:
        check_usage(line)
    run(node.local(re.sub(r"^nri-inject .*$", "", block.text, flags=re.MULTILINE)), node.root)


# --- output ---------------------------------------------------------------------------------------


def refusal(text: str, host: Host) -> str:
    """Return the error of the pod and the annotation that a text names, under the text's policy."""
    found = re.search(r"pod (\S+)/(\S+), container (\S+): annotation (\S+):", plain(text))
    assert found is not None, text
    namespace, name, container, key = found.groups()
    pod = Pod(name=name, namespace=namespace, annotations={key: REQUESTS[namespace]})
    policies = [DENY_ALL, document.read(b"rules: []", "/etc/nri-inject/policy.yaml")]
    policy = policies["/etc/nri-inject/policy.yaml" in text]
    asking = Container(name=container)
    with pytest.raises(RequestError) as caught:
        inject(pod, asking, replace(host, permit=Permit(policy, pod, asking, "10-device-injector")))
    return str(caught.value)


@cache
def tried() -> str:
    """Return what `make demo` prints."""
    files = ["--policy", f"{EXAMPLE}/policy.yaml", "--unsafe-files", f"{EXAMPLE}/pod.yaml"]
    words = ["try", *NO_NODE, *files]
    return CliRunner().invoke(cli.program, words).stdout


def plain(text: str) -> str:
    """Return a text without the breaks of lines and of strings in Python."""
    return " ".join(re.sub(r'"\s+f?r?"', "", text).split())


@pytest.mark.slow
@titled("", "text")
def test_output_has_the_words_of_the_programs(block: Block, host: Host) -> None:
    if '"seconds":' in block.text:
        whole = [line for line in block.text.splitlines() if "..." not in line]
        assert len([*recording.read(whole)]) == len(whole)
        return
    if "default/workshop" in block.text:
        assert plain(block.text) in plain(tried())
        return
    if ": annotation devices." in plain(block.text):
        numbers = r" \(c \d+:\d+\)"  # those of the page's node
        assert refusal(block.text, host) in re.sub(numbers, "", plain(block.text))
        return
    known = [part for part in OUTPUT if part in plain(block.text)]
    assert known, f"{block.title}: no test compares it"
    for part in known:
        assert part.strip() in plain((ROOT / OUTPUT[part]).read_text()), part


# --- the whole ------------------------------------------------------------------------------------

LANGUAGES = {"yaml", "json", "toml", "ini", "python", "console", "sh", "", "text"}


def test_there_are_few_fragments_and_no_command_is_one() -> None:
    fragments = [block for block in BLOCKS if block.reason]
    assert len(fragments) <= MAX_FRAGMENTS
    assert [block.title for block in fragments if block.language in ("console", "sh")] == []


def test_every_block_has_a_language_that_a_test_knows() -> None:
    assert [block.title for block in BLOCKS if block.language not in LANGUAGES] == []


def test_the_tests_on_a_runtime_exist() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    named = set(ON_A_RUNTIME.values())
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []


def done(block: Block) -> str:
    """Say what tests do with a block."""
    if block.reason:
        return "fragments"
    if block.language in ("", "text"):
        return "compared with the output of a program"
    if block.language not in ("console", "sh"):
        return "read by the reader of their kind, or by mypy"
    texts = [command.text for command in commands(block)] if block.language == "console" else []
    if any(on_a_runtime(text, block.page) for text in texts):
        return "run on a runtime"
    others = texts and all(first_word(text) in NOT_RUN for text in texts)
    return "of other programs, and not run" if others else "run"


if __name__ == "__main__":
    report = [f"{number} {what}" for what, number in Counter(map(done, BLOCKS)).most_common()]
    pages = {block.page for block in BLOCKS}
    sys.stdout.write("\n".join([*report, f"{len(BLOCKS)} blocks on {len(pages)} pages", ""]))
