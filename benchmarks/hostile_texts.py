"""What the worst text of a pod costs each reader, in processor time.

    .venv/bench/bin/python benchmarks/hostile_texts.py [--only NAME] [--depth N]

Both ends of the session are in this process: a request is decoded, answered and logged as in a
plugin. The texts come from `hostile.worst`, at the sizes that the API server takes; a text's time
is the least of three runs. Exits with 1 if one takes LIMIT or longer.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, redirect_stderr, suppress
from pathlib import Path
from typing import Final

import hostile
import samples
from google.protobuf.message import Message
from hostile import Cost, Reader

from nri_inject.api import (
    ConfigureRequest,
    Container,
    CreateContainerRequest,
    CreateContainerResponse,
    ValidateContainerAdjustmentRequest,
)
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin, dispatch
from nri_inject.plugins import (
    cdi_injector,
    device_injector,
    differ,
    hook_injector,
    logger,
    suite,
)
from nri_inject.plugins.policy_validator import ValidatorService
from nri_inject.plugins.resource_assigner.plugin import ResourceAssigner
from nri_inject.service import logs
from nri_inject.service.base import Options, Service
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec
from nri_inject.service.health.missed import missing_edits
from nri_inject.service.injector import InjectorService
from nri_inject.wire.session import Call, Role, Session
from nri_inject.wire.ttrpc import Code

LIMIT: Final = 0.2
"""Seconds; a tenth of what a runtime waits."""

RULES: Final = 1000
HOOKS: Final = 200
UNRESTRICTED: Final = json.dumps({"policy": "unrestricted"})


def rules(count: int) -> str:
    """Return a policy that compares everything with each of its rules, and allows with the last."""
    costly = [
        {
            "allow": {
                "devices": [f"/dev/*{number}"],
                "mounts": [f"/*{number}/x"],
                "sysctl": [f"*.x{number}"],
                "cdi_devices": [f"*/c=x{number}"],
            }
        }
        for number in range(count - 1)
    ]
    last = {
        "devices": ["/dev/**"],
        "mounts": [{"source": "/etc/**", "access": "rw", "options": ["**"]}],
        "sysctl": ["**"],
        "cdi_devices": ["**"],
        "network_devices": ["*"],
        "ulimits": ["NOFILE"],
    }
    labelled = {"who": {"pods": {"matchLabels": {"app": "x"}}}, "allow": last}
    return json.dumps({"policy": {"rules": [*costly, labelled, {"allow": last}]}})


def write_hooks(directory: Path) -> None:
    """Fill a directory with hook definitions of which many look at each annotation."""
    samples.write_hooks(directory, HOOKS // 2)
    for number in range(HOOKS // 2):
        when = {"annotations": {f"^(any|feature[0-9a-f]*).*{number % 10}?": "gpu.{0,9}true$"}}
        hook = {"path": "/bin/true"}
        definition = {"version": "1.0.0", "hook": hook, "when": when, "stages": ["poststop"]}
        (directory / f"loose{number:04}.json").write_text(json.dumps(definition))


def configured(plugin: Plugin, policy: str) -> Plugin:
    """Configure a plugin as a runtime does."""
    request = ConfigureRequest(config=policy, runtime_name="containerd", runtime_version="2.4.0")
    if plugin.configure is not None:
        plugin.configure(request)
    return plugin


def seconds(plugin: Plugin, method: str, request: Message) -> float:
    """Return how long a plugin's processor is busy with a request, the decoding included."""
    runtime, ours = Session(Role.RUNTIME), Session(Role.PLUGIN)
    runtime.call(method, request)
    data = runtime.outgoing()
    gc.collect()
    began = time.process_time()
    (call,) = ours.receive(data)
    if not isinstance(call, Call):
        raise SystemExit(f"{call} instead of a call")
    try:
        ours.answer(call, dispatch(plugin, call.method, call.request))
    except NriError as error:
        ours.refuse(call, Code.UNKNOWN, str(error))
    ours.outgoing()
    return time.process_time() - began


def timed(action: Callable[[], object]) -> float:
    """Return how long the processor is busy with something."""
    gc.collect()
    began = time.process_time()
    action()
    return time.process_time() - began


def validating(plugin: Plugin, adjusting: Plugin) -> Cost:
    """Return what it costs to validate what an unrestricted suite has injected."""

    def cost(request: CreateContainerRequest) -> float:
        created = CreateContainerResponse()
        with suppress(NriError):
            created.MergeFromString(
                dispatch(adjusting, "CreateContainer", request).SerializeToString()
            )
        validated = ValidateContainerAdjustmentRequest(
            pod=request.pod, container=request.container, adjust=created.adjust
        )
        return seconds(plugin, "ValidateContainerAdjustment", validated)

    return cost


def missing(service: InjectorService) -> Cost:
    """Return what it costs to find out that a running container lacks what it asks for."""

    def look(request: CreateContainerRequest) -> None:
        with suppress(NriError):
            missing_edits(service.expected(request.pod, request.container), request.container)

    return lambda request: timed(lambda: look(request))


def logging(words: Callable[[logger.Document], str]) -> Cost:
    """Return what it costs to word an event."""

    def word(request: CreateContainerRequest) -> str:
        told = {"pod": request.pod, "container": request.container}
        return words(logger.document(0.0, "create_container", told))

    return lambda request: timed(lambda: word(request))


def differing(request: CreateContainerRequest) -> float:
    """Return what it costs to show all of a container as new."""
    before, after = Container(), request.container

    def word() -> str:
        large = differ.large_of(before, after)
        changes, untold = differ.compared(before, after, created=False, large=large)
        step = differ.Step(0.0, request.pod, after, "00", "99", changes, untold, large)
        return differ.as_text(step)

    return timed(word)


def costs(directory: Path) -> Iterator[tuple[str, Sequence[Reader], Cost]]:
    """Yield plugins by name, each with the readers that are in it and what a request costs it."""
    options = Options(
        idx="10",
        name="hostile",
        cdi_dir=(str(directory / "cdi"),),
        hooks_dir=(str(directory / "hooks"),),
        unsafe_files=True,
    )

    def service(policy: str, *parts: InjectorSpec) -> closing[InjectorService]:
        made = InjectorService(parts, options, Config())
        configured(made.plugin, policy)
        return closing(made)

    def creating(made: Service) -> Cost:
        return lambda request: seconds(made.plugin, "CreateContainer", request)

    every = (*hostile.MAIN_READERS, *hostile.CDI_READERS, *hostile.HOOK_READERS)
    for title, part, readers in (
        ("device injector", device_injector.PART, hostile.DEVICE_READERS),
        ("CDI injector", cdi_injector.PART, hostile.CDI_READERS),
        ("hook injector", hook_injector.PART, hostile.HOOK_READERS),
    ):
        with service(UNRESTRICTED, part) as made:
            yield title, readers, creating(made)
    for count in (1, RULES):
        with service(rules(count), *suite.PARTS) as made:
            yield f"suite, {count:,} rules", every, creating(made)
        with (
            closing(ValidatorService(options, Config())) as validator,
            service(UNRESTRICTED, *suite.PARTS) as free,
        ):
            plugin = configured(validator.plugin, rules(count))
            readers = (*every, *hostile.VALIDATOR_READERS)
            yield f"validator, {count:,} rules", readers, validating(plugin, free.plugin)
    with service(UNRESTRICTED, *suite.PARTS) as made:
        yield "missed", (*every, *hostile.REPORT_READERS), missing(made)
    with closing(ResourceAssigner(options, Config())) as assigner:
        yield "resource assigner", hostile.ASSIGNER_READERS, creating(assigner)
    yield "logger, YAML", hostile.REPORT_READERS, logging(logger.as_yaml)
    yield "logger, JSON", hostile.REPORT_READERS, logging(logger.as_json)
    yield "differ", hostile.REPORT_READERS, differing


def main(argv: Sequence[str]) -> int:
    """Search, and print the worst text for each reader."""
    parser = argparse.ArgumentParser(description="What the worst text of a pod costs.")
    parser.add_argument(
        "--only", metavar="NAME", default="", help="plugins with this in their name"
    )
    parser.add_argument("--depth", type=int, default=2, help="fragments in a text, 2 unless given")
    arguments = parser.parse_args(argv)
    slowest = 0.0
    print(f"{'plugin':24}{'reader':28}{'ms':>7}  the text repeats")
    with (
        tempfile.TemporaryDirectory() as directory,
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),  # the log is written, and thrown away
    ):
        logs.configure()
        write_hooks(Path(directory, "hooks"))
        samples.write_cdi(Path(directory, "cdi"), "json", 10, 1000)
        for plugin, readers, cost in costs(Path(directory)):
            if arguments.only not in plugin:
                continue
            gc.freeze()  # so that collecting what a request has left takes no time
            for reader in readers:
                _, text = hostile.worst(reader, cost, depth=arguments.depth)
                least = min(cost(reader.asked(text)) for _ in range(3))
                slowest = max(slowest, least)
                shown = "".join(text.fragments)
                print(
                    f"{plugin:24}{reader.name:28}{least * 1e3:7.1f}  {shown[:60]!r}"
                    + (f" in {text.frame}" if any(text.frame) else "")
                    + (f", a {text.share}th of the size" if text.share > 1 else ""),
                    flush=True,
                )
    print(f"worst: {slowest * 1e3:.0f} ms, at most {LIMIT * 1e3:.0f} allowed")
    return int(slowest >= LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
