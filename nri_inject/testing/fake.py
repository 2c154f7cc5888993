"""A runtime for tests: real sessions with real plugins, and a world without processes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nri_inject.api import Container, Pod
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.errors import NriError
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.host import Host
from nri_inject.plugin import Plugin
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.discovery import identity
from nri_inject.runtime.launcher import TRIED, launch_as
from nri_inject.runtime.peer import Peer, Tap, Timeouts
from nri_inject.runtime.replay import replay
from nri_inject.runtime.validate import Rules
from nri_inject.runtime.world import World
from nri_inject.stub import Stub
from nri_inject.wire import recording

_FAREWELL: Final = 10.0  # seconds that a plugin of ours may take to end


class FakeRuntime(World):
    """A runtime of a version, for tests: plugins connect, pods and containers live and end.

    `runtime`, `timeouts` and `rules` are those of `Adaptation`, `host` what `World` takes of it.
    A plugin's `tap` gets all bytes of its session: a `Recorder`, say.
    """

    def __init__(
        self,
        runtime: Runtime = NEWEST,
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        rules: Rules | None = None,
        **host: Any,
    ) -> None:
        super().__init__(Adaptation(runtime, timeouts=timeouts, rules=rules), **host)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Give the runtime itself, which `with` closes in the end."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def connect(self, plugin: Plugin, config: str = "", *, tap: Tap | None = None) -> Stub:
        """Run a plugin in this process, and return its stub once it is synchronized.

        Its handlers run in a thread of their own, as the stub waits for the runtime and the
        runtime for the stub. What goes wrong in them is in the log, as on a node.
        """
        peer, stub = self._served(plugin, tap)
        self.adaptation.add(peer, config)
        return stub

    def connect_injector(
        self, injector: Injector, host: Host | None = None, *, name: str = "injector"
    ) -> Stub:
        """Run an injector as a plugin of index 10; `host` has no devices unless given."""
        known = Host(devices={}, runtime=self.adaptation.runtime) if host is None else host

        def create_container(pod: Pod, container: Container) -> Any:
            return injector(pod, container, known)

        return self.connect(Plugin(name=name, index="10", create_container=create_container))

    def launch(
        self, path: str | Path, config: str = "", *, title: str = "", tap: Tap | None = None
    ) -> None:
        """Launch an executable as a runtime launches pre-installed plugins.

        `title` is `NN-name` where the file is not called so. What the plugin logs comes out
        with the test's own standard error.
        """
        index, name = identity(title or path)
        peer = launch_as(Path(path).absolute(), index, name, log=True, tap=tap, environment=TRIED)
        self.adaptation.add(peer, config)

    def replay(self, plugin: Plugin | str | Path, file: str | Path) -> list[str]:
        """Play a recorded session to a plugin; return a sentence for each other answer.

        RecordingError for a file that is no recording.
        """
        with Path(file).open(encoding="utf-8") as lines:
            exchanges = recording.exchanges(recording.read(lines))
        if isinstance(plugin, Plugin):
            peer = self._served(plugin)[0]
        else:
            peer = launch_as(
                Path(plugin).absolute(), *identity(plugin), log=True, environment=TRIED
            )
        try:
            return replay(peer, exchanges)
        finally:
            peer.close()

    def close(self) -> None:
        """End all plugins; RuntimeError for one in this process that does not end."""
        self.adaptation.close()
        for thread in self._threads:
            thread.join(_FAREWELL)
        if stuck := [thread.name for thread in self._threads if thread.is_alive()]:
            raise RuntimeError(f"still in a handler: {', '.join(stuck)}")

    def _served(self, plugin: Plugin, tap: Tap | None = None) -> tuple[Peer, Stub]:
        ours, theirs = socket.socketpair()
        stub = Stub(plugin, connection=theirs)
        thread = threading.Thread(
            target=partial(_run, stub), name=f"{plugin.index}-{plugin.name}", daemon=True
        )
        thread.start()
        self._threads.append(thread)
        return Peer(ours, tap=tap), stub


def _run(stub: Stub) -> None:
    try:
        stub.run()
    except NriError:
        return  # the runtime's side has the same fault to tell


def make_pod(
    name: str = "pod",
    namespace: str = "default",
    *,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    **fields: Any,
) -> Pod:
    """Make a pod; its ids follow from its name. `fields` are further fields of the message."""
    return Pod(
        id=f"pod-{namespace}-{name}",
        uid=f"uid-{namespace}-{name}",
        name=name,
        namespace=namespace,
        annotations=annotations or {},
        labels=labels or {},
        **fields,
    )


def make_container(
    pod: Pod, name: str = "main", *, args: Iterable[str] = ("sh",), **fields: Any
) -> Container:
    """Make a container of a pod; its id follows from both names."""
    return Container(
        id=f"container-{pod.namespace}-{pod.name}-{name}",
        pod_sandbox_id=pod.id,
        name=name,
        args=args,
        **fields,
    )
