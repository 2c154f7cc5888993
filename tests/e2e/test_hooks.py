"""The hook injector on real runtimes: hooks run, with the state, at the stages they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject.host.hook_environment import PATH

from .archive import Archive
from .cri import CriError
from .daemon import Daemon
from .hook_environment import POD, STAGES, recorded, recorder
from .plugin import External
from .poll import until

ALWAYS = {"always": True}
SHIPPED = Path(__file__).parents[2] / "hooks"

# What each low-level runtime calls the container's state at each stage. runc 1.1 runs poststart
# hooks at the end of its create already, and says so in the state.
STATUS = {
    "runc": {
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "created or running",
        "poststop": "stopped",
    },
    "crun": {
        "createRuntime": "created",
        "createContainer": "created",
        "startContainer": "starting",
        "poststart": "running",
        "poststop": "stopped",
    },
}


class Hooks:
    """A hook directory, programs for it, and what they have left behind."""

    def __init__(self, place: Path, plugin: External) -> None:
        self.place = place
        self.plugin = plugin

    @property
    def directory(self) -> Path:
        return self.place / "hooks.d"

    @property
    def output(self) -> Path:
        """The directory where programs write; containers that mount it see it as /mnt."""
        return self.place / "output"

    def program(self, name: str, script: str) -> str:
        path = self.place / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    def define(
        self, name: str, hook: dict[str, Any], *stages: str, when: dict[str, Any] = ALWAYS
    ) -> None:
        """Put a hook file in place as one step, as an installer does."""
        document = {"version": "1.0.0", "hook": hook, "when": when, "stages": list(stages)}
        new = self.directory / f"{name}.json.new"
        new.write_text(json.dumps(document))
        new.rename(self.directory / f"{name}.json")

    def recorder(self) -> str:
        """Return a program that writes the state to a file named after its first argument."""
        script = f'cat > {self.output}/.$1 && mv {self.output}/.$1 {self.output}/"$1"'
        return self.program("record", script)

    def recorded(self, name: str) -> Any:
        """Return the state that a hook wrote, when it has."""
        file = self.output / name
        until(file.exists, f"the hook's {file}")
        return json.loads(file.read_text())


@pytest.fixture
def configuration() -> str:
    """Return what the plugin's configuration says; a test may say otherwise."""
    return "policy: unrestricted\n"


@pytest.fixture
def hooks(runtime: Daemon, tmp_path: Path, configuration: str) -> Iterator[Hooks]:
    """Start the injector beside the shared runtime, with a hook directory of the test's own."""
    for name in ("hooks.d", "output"):
        (tmp_path / name).mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(configuration)
    options = ("--hooks-dir", str(tmp_path / "hooks.d"), "--config", str(config))
    plugin = External("nri-hook-injector", runtime, tmp_path / "plugin.log", *options)
    with closing(plugin):
        yield Hooks(tmp_path, plugin)


def mount_of(hooks: Hooks) -> dict[str, Any]:
    return {"host_path": str(hooks.output), "container_path": "/mnt", "readonly": False}


def test_every_stage_runs_and_gets_the_containers_state(
    runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    status = STATUS[handler]
    program = hooks.recorder()
    for stage in status.keys() - {"startContainer"}:
        hooks.define(stage, {"path": program, "args": ["record", stage]}, stage)
    # This one runs inside of the container, from the container's own files.
    inside = ["sh", "-c", "cat > /mnt/startContainer"]
    hooks.define("inside", {"path": "/bin/sh", "args": inside}, "startContainer")
    annotations = {"example.com/who": "me"}
    pod = runtime.cri.run_pod("stages", annotations=annotations, handler=handler)
    container = runtime.cri.run(pod, "main", mounts=[mount_of(hooks)])
    before_the_end = {stage: hooks.recorded(stage) for stage in status.keys() - {"poststop"}}
    runtime.cri.stop(container)
    runtime.cri.remove_container(container)
    states = {**before_the_end, "poststop": hooks.recorded("poststop")}

    for stage, state in states.items():
        assert state["status"] in status[stage].split(" or ")
        assert state["id"] == container
        assert state["ociVersion"].startswith("1.")
        # crun names the bundle as the container's process sees it: not at all.
        is_hidden = (handler, stage) == ("crun", "startContainer")
        assert state["bundle"] == "/" if is_hidden else f"/{container}" in state["bundle"]
    assert all(states[stage]["pid"] > 0 for stage in ("createRuntime", "poststart"))


def test_prestart_hook_runs_once(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("count", f"echo ran >> {hooks.output}/count")
    hooks.define("count", {"path": program}, "prestart")
    runtime.cri.run(runtime.cri.run_pod("prestart"), "main")
    assert (hooks.output / "count").read_text() == "ran\n"


def test_hook_gets_its_argv_and_environment(runtime: Daemon, hooks: Hooks) -> None:
    script = f'printf "%s|" "$1" "$2" "$COLOUR" > {hooks.output}/seen'
    program = hooks.program("tell", script)
    hook = {"path": program, "args": ["tell", "a b", "$HOME"], "env": ["COLOUR=green"]}
    hooks.define("tell", hook, "createRuntime")
    runtime.cri.run(runtime.cri.run_pod("argv"), "main")
    assert (hooks.output / "seen").read_text() == "a b|$HOME|green|"


@pytest.mark.parametrize("env", [None, [], ["COLOUR=green"]])
def test_hook_has_no_variable_but_its_own_at_any_stage(
    env: list[str] | None, runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    given = {} if env is None else {"env": env}
    for stage in STAGES:
        hooks.define(stage, {**recorder(stage, hooks.output), **given}, stage)
    pod = runtime.cri.run_pod("environment", handler=handler)
    container = runtime.cri.run(pod, "main", envs=POD, mounts=[mount_of(hooks)])
    runtime.cri.stop(container)
    runtime.cri.remove_container(container)
    assert recorded(hooks.output) == {stage: env or [PATH] for stage in STAGES}


def test_hook_is_for_the_containers_that_match(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("note", f"echo ran >> {hooks.output}/note")
    when = {"annotations": {r"^example\.com/note$": "^(yes|on)$"}}
    hooks.define("note", {"path": program}, "createRuntime", when=when)
    for value in ("no", "yes", "yes\n", "on"):
        pod = runtime.cri.run_pod("match", annotations={"example.com/note": value})
        runtime.cri.run(pod, "main")
    assert (hooks.output / "note").read_text() == "ran\nran\n"


def test_has_bind_mounts_is_about_the_pods_own_mounts(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("note", f"echo ran >> {hooks.output}/note")
    hooks.define("note", {"path": program}, "createRuntime", when={"hasBindMounts": True})
    pod = runtime.cri.run_pod("mounts")
    runtime.cri.run(pod, "without")
    assert not (hooks.output / "note").exists()
    runtime.cri.run(pod, "with", mounts=[mount_of(hooks)])
    assert (hooks.output / "note").read_text() == "ran\n"


def test_failing_hook_fails_the_container_with_its_message(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("refuse", "echo no licence for this one >&2; exit 7")
    hooks.define("refuse", {"path": program}, "createRuntime")
    pod = runtime.cri.run_pod("failing")
    with pytest.raises(CriError, match=r"exit status 7.*no licence for this one"):
        runtime.cri.run(pod, "main")


def test_hook_that_takes_too_long_is_ended_and_fails_the_container(
    runtime: Daemon, hooks: Hooks
) -> None:
    program = hooks.program("sleepy", "exec sleep 20")
    hooks.define("sleepy", {"path": program, "timeout": 1}, "createRuntime")
    pod = runtime.cri.run_pod("timeout")
    begin = time.monotonic()
    with pytest.raises(CriError, match=r"hook ran past specified timeout of 1\.0s"):
        runtime.cri.run(pod, "main")
    assert 1.0 <= time.monotonic() - begin < 10.0


def test_hook_added_replaced_and_removed_while_running(runtime: Daemon, hooks: Hooks) -> None:
    seen = hooks.output / "seen"
    seen.touch()
    programs = [hooks.program(name, f"echo {name} >> {seen}") for name in ("one", "two")]
    pod = runtime.cri.run_pod("changing")

    def ran(name: str) -> list[str]:
        """Return what ran for a new container."""
        seen.write_text("")
        runtime.cri.run(pod, name)
        return seen.read_text().split()

    assert ran("before") == []
    hooks.define("hook", {"path": programs[0]}, "createRuntime")
    assert ran("added") == ["one"]
    hooks.define("hook", {"path": programs[1]}, "createRuntime")
    assert ran("replaced") == ["two"]
    (hooks.directory / "hook.json").write_text('{"version": "1.0.0", "hook": {')
    assert ran("half-written") == ["two"]
    (hooks.directory / "hook.json").unlink()
    assert ran("removed") == []
    shutil.rmtree(hooks.directory)
    hooks.directory.mkdir()
    hooks.define("hook", {"path": programs[0]}, "createRuntime")
    assert ran("directory-replaced") == ["one"]


def test_hook_without_its_program_is_left_out_until_it_comes(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("late", f"echo ran >> {hooks.output}/late")
    Path(program).rename(f"{program}.off")
    hooks.define("late", {"path": program}, "createRuntime")
    pod = runtime.cri.run_pod("late")
    runtime.cri.run(pod, "without")
    assert f"program {program} does not exist" in hooks.plugin.log
    Path(f"{program}.off").rename(program)
    runtime.cri.run(pod, "with")
    assert (hooks.output / "late").read_text() == "ran\n"


@pytest.mark.parametrize("configuration", ["hooks: {unusable_program: fail}\n"])
def test_hook_without_its_program_fails_the_container_if_the_admin_says_so(
    runtime: Daemon, hooks: Hooks
) -> None:
    hooks.define("gone", {"path": "/no/such/program"}, "createRuntime")
    pod = runtime.cri.run_pod("gone")
    with pytest.raises(CriError) as caught:
        runtime.cri.run(pod, "main")
    assert (
        f"pod default/gone, container main: hook {hooks.directory}/gone.json cannot be run:"
        " program /no/such/program does not exist: there is no '/no'"
    ) in str(caught.value)


def ship(hooks: Hooks, name: str, **environment: str) -> None:
    """Define a hook that we ship, with further variables."""
    programs = hooks.place / "nri-inject"
    shutil.copytree(SHIPPED / "bin", programs, dirs_exist_ok=True)
    text = (SHIPPED / f"definitions/{name}.json").read_text()
    document = json.loads(text.replace("/usr/libexec/oci/hooks.d/nri-inject", str(programs)))
    given = dict(entry.split("=", 1) for entry in document["hook"]["env"]) | environment
    document["hook"]["env"] = [f"{key}={value}" for key, value in given.items()]
    (hooks.directory / f"{name}.json").write_text(json.dumps(document))


def wish(hook: str) -> dict[str, str]:
    """Return a pod's annotations that ask for a shipped hook, and are hostile to its reader."""
    lie = '","bundle":"/","root":{"path":"/"},"id":"evil","x":"'
    return {f"{hook}.hooks.noderesource.dev": "on", "bundle": "/", "lie": f"\\{lie}\\/\u00e9\n"}


def test_shipped_hook_makes_links_to_the_containers_devices(
    runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    ship(hooks, "dev-char-links")
    pod = runtime.cri.run_pod("links", annotations=wish("dev-char-links"), handler=handler)
    container = runtime.cri.run(pod, "main", annotations=wish("dev-char-links"))
    for link, target in (("1:3", "../null"), ("5:0", "../tty")):
        result = runtime.cri.exec(container, "readlink", f"/dev/char/{link}")
        assert result == (0, f"{target}\n", "")


def test_shipped_hook_brings_the_containers_cache_of_libraries_up_to_date(
    runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    (hooks.output / "ld.so.conf").write_text("/opt/lib\n")
    # In the place of ldconfig: what it would be called with, for a container that has a use for it.
    program = hooks.program(
        "ldconfig", f'echo "$@" > {hooks.output}/called; ls $2/etc > {hooks.output}/etc'
    )
    ship(hooks, "container-ldconfig", LDCONFIG=program)
    pod = runtime.cri.run_pod("ldconfig", annotations=wish("ldconfig"), handler=handler)
    mount = {"host_path": str(hooks.output / "ld.so.conf"), "container_path": "/etc/ld.so.conf"}
    runtime.cri.run(pod, "main", annotations=wish("ldconfig"), mounts=[mount])
    option, root = (hooks.output / "called").read_text().split()
    assert (option, Path(root).name) == ("-r", "rootfs")
    assert "ld.so.conf" in (hooks.output / "etc").read_text().split()


def test_shipped_hooks_log_the_start_and_the_end_of_a_container(
    runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    log = hooks.output / "log"
    for name in ("start-stop-log-start", "start-stop-log-stop"):
        ship(hooks, name, LOG_FILE=str(log))
    pod = runtime.cri.run_pod("log", annotations=wish("start-stop-log"), handler=handler)
    container = runtime.cri.run(pod, "main")
    runtime.cri.stop(container)
    runtime.cri.remove_container(container)
    until(lambda: log.read_text().count("\n") == 2, "two lines")
    lines = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    assert lines == [f"container {container} started", f"container {container} stopped"]


def test_what_a_shipped_hook_has_to_say_is_logged_where_the_runtime_drops_it(
    runtime: Daemon, hooks: Hooks, handler: str
) -> None:
    log = hooks.output / "log"
    program = hooks.program("ldconfig", "echo no room for a cache >&2; exit 7")
    ship(hooks, "container-ldconfig", LDCONFIG=program, LOG_FILE=str(log))
    (hooks.output / "ld.so.conf").touch()
    mount = {"host_path": str(hooks.output / "ld.so.conf"), "container_path": "/etc/ld.so.conf"}
    pod = runtime.cri.run_pod("says", annotations=wish("ldconfig"), handler=handler)
    with pytest.raises(CriError) as caught:
        runtime.cri.run(pod, "main", mounts=[mount])
    told = {"runc": "exit status 7, stdout: , stderr: no room for a cache", "crun": "exit code: 7"}
    assert told[handler] in str(caught.value)
    line = r"container [0-9a-f]{64}: hook container-ldconfig: no room for a cache"
    assert re.search(rf" {line}\n$", log.read_text())


def test_shipped_hooks_run_on_busyboxs_shell_and_awk(
    runtime: Daemon, hooks: Hooks, archive: Archive, handler: str
) -> None:
    tools = hooks.place / "tools"
    tools.mkdir()
    shutil.copy2(archive.busybox, tools / "busybox")
    for name in subprocess.check_output([archive.busybox, "--list"], text=True).split():
        if name != "busybox":
            (tools / name).symlink_to("busybox")
    log = hooks.output / "log"
    ship(hooks, "dev-char-links", PATH=str(tools), LOG_FILE=str(log))
    for program in (hooks.place / "nri-inject").iterdir():
        program.write_text(program.read_text().replace("#!/bin/sh", f"#!{tools}/sh", 1))
    pod = runtime.cri.run_pod("busybox", annotations=wish("dev-char-links"), handler=handler)
    container = runtime.cri.run(pod, "main", annotations=wish("dev-char-links"))
    result = runtime.cri.exec(container, "readlink", "/dev/char/1:3")
    assert (result, log.exists()) == ((0, "../null\n", ""), False)


def test_file_that_others_could_have_written_is_refused(runtime: Daemon, hooks: Hooks) -> None:
    program = hooks.program("note", f"echo ran >> {hooks.output}/note")
    hooks.define("note", {"path": program}, "createRuntime")
    (hooks.directory / "note.json").chmod(0o666)
    runtime.cri.run(runtime.cri.run_pod("untrusted"), "main")
    assert not (hooks.output / "note").exists()
    assert "can be written by everybody (mode 0666)" in hooks.plugin.log


def test_hooks_end_up_in_the_bundle_in_the_order_of_their_files(
    runtime: Daemon, hooks: Hooks
) -> None:
    program = hooks.program("nothing", "exit 0")
    for name in ("b", "A", "c"):
        hooks.define(name, {"path": program, "args": [name], "timeout": 9}, "poststart")
    container = runtime.cri.run(runtime.cri.run_pod("order"), "main")
    hook = {"path": program, "env": [PATH], "timeout": 9}
    expected = [{**hook, "args": [name]} for name in ("A", "b", "c")]
    assert runtime.bundle_spec(container)["hooks"]["poststart"] == expected
