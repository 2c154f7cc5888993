"""Texts that a pod's author could write to keep a plugin busy, found by a search.

Each reader has fragments that texts for it are made of. A text repeats a few fragments up to its
size, within a frame. `worst` begins with one fragment, keeps the texts that cost most, and adds a
fragment to these. What a text costs is the caller's to measure: steps or processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Final

from nri_inject.api import Container, CreateContainerRequest, Pod
from nri_inject.injectors.cdi import PREFIX as CDI
from nri_inject.injectors.device import KINDS
from nri_inject.plugins.resource_assigner.pools import ANNOTATION as EXCLUSIVE_CPUS
from nri_inject.runtime.validate import REQUIRED_PLUGINS

SIZE: Final = 256 * 1024
"""How much Kubernetes takes for all annotations of an object, keys included (apimachinery,
TotalAnnotationSizeLimitB)."""

OBJECT: Final = 1536 * 1024
"""How many bytes an object may have in etcd (its --max-request-bytes)."""

NAME: Final = "main"
"""The container that asks."""

SHARES: Final = (1, 4, 10, 20, 40)
_SMALL: Final = 8

Frame = tuple[str, str]
PLAIN: Final[Frame] = ("", "")
Cost = Callable[[CreateContainerRequest], float]


@dataclass(frozen=True)
class Text:
    """A text of any size: `{n}` in a fragment is another number each time.

    `share` divides the size that a reader takes: what is short enough to be right may cost more
    than what is refused for its length.
    """

    frame: Frame
    fragments: tuple[str, ...]
    share: int = 1

    def of(self, size: int) -> str:
        """Return the text with so many characters at most."""
        head, tail = self.frame
        left = size - len(head) - len(tail)
        parts = [head]
        for part in self._parts():
            left -= len(part)
            if left < 0:
                break
            parts.append(part)
        return "".join((*parts, tail))

    def _parts(self) -> Iterator[str]:
        unit = "".join(self.fragments)
        return (unit.replace("{n}", str(number)) for number in count()) if unit else iter(())


@dataclass(frozen=True)
class Reader:
    """What reads a text of a pod: its fragments, its frames, and how the text is asked with.

    `size` is how many characters of it the API server takes.
    """

    name: str
    fragments: Sequence[str]
    frames: Sequence[Frame]
    request: Callable[[Text, int], CreateContainerRequest]
    size: int = SIZE

    def asked(self, text: Text, size: int = 0) -> CreateContainerRequest:
        """Return the request with a text, of the reader's size unless another is given."""
        return self.request(text, (size or self.size) // text.share)


def worst(
    reader: Reader, cost: Cost, *, size: int = 0, width: int = 12, depth: int = 2
) -> tuple[float, Text]:
    """Return the text that costs most of those that were tried, and what it costs.

    The texts have up to `depth` fragments, and the reader's size unless another is given. All are
    tried at a small part of the size, and the `width` costliest of them at every share of it.
    """

    def costs(texts: Iterable[Text]) -> list[tuple[float, Text]]:
        found = [(cost(reader.asked(text, size)), text) for text in texts]
        return sorted(found, key=lambda pair: pair[0], reverse=True)[:width]

    every = product(reader.frames, reader.fragments)
    tried = {Text(frame, (one,), _SMALL) for frame, one in every}
    found: list[tuple[float, Text]] = []
    for _ in range(depth):
        promising = [text for _, text in costs(sorted(tried, key=repr))]
        found += costs(replace(text, share=share) for text in promising for share in SHARES)
        found = sorted(found, key=lambda pair: pair[0], reverse=True)[:width]
        tried = {
            Text(text.frame, (*text.fragments, fragment), _SMALL)
            for _, text in found[: width // 3]
            for fragment in reader.fragments
        }
    return found[0]


# --- how a text gets into a request -------------------------------------------------------------


def asking(
    annotations: Mapping[str, str],
    *,
    labels: Mapping[str, str] | None = None,
    args: Sequence[str] = ("sh",),
    env: Sequence[str] = (),
) -> CreateContainerRequest:
    """Return a request with the pod's annotations repeated in the container's, as CRI-O does."""
    return CreateContainerRequest(
        pod=Pod(id="p", name="p", namespace="default", annotations=annotations, labels=labels),
        container=Container(
            id="c", pod_sandbox_id="p", name=NAME, annotations=annotations, args=args, env=env
        ),
    )


def shared_by(*keys: str) -> Callable[[Text, int], CreateContainerRequest]:
    """Return a request whose annotations of these keys share the size evenly."""

    def request(text: Text, size: int) -> CreateContainerRequest:
        each = size // len(keys)
        return asking({key: text.of(each - len(key)) for key in keys})

    return request


def scattered(prefix: str) -> Callable[[Text, int], CreateContainerRequest]:
    """Return a request with as many small annotations as there may be, each with one unit."""

    def request(text: Text, size: int) -> CreateContainerRequest:
        annotations: dict[str, str] = {}
        for number in count():
            key, value = f"{prefix}{number:x}", "".join(text.fragments).replace("{n}", f"{number}")
            size -= len(key) + len(value)
            if size < 0:
                return asking(annotations)
            annotations[key] = value
        raise AssertionError

    return request


def labelled(text: Text, size: int) -> CreateContainerRequest:
    """Return a request with labels that take that much of etcd.

    The API server stores each key twice, with the value and in managedFields, `"f:KEY":{},`; and
    protobuf takes 6 bytes for an entry.
    """
    unit = "".join(text.fragments)
    labels: dict[str, str] = {}
    for number in count():
        key, value = f"{unit[:57]}{number:x}", unit[:63]
        size -= 2 * len(key) + len(value) + 14
        if size < 0:
            break
        labels[key] = value
    return asking({}, labels=labels)


def with_variables(text: Text, size: int) -> CreateContainerRequest:
    """Return a request with that many characters of variables."""
    unit = "".join(text.fragments)
    each = len(unit) + 6
    return asking({}, env=[f"{number:x}={unit}" for number in range(size // each)])


def with_arguments(text: Text, size: int) -> CreateContainerRequest:
    """Return a request with that many characters of arguments."""
    unit = "".join(text.fragments)
    return asking({}, args=[unit] * (size // (len(unit) + 2)))


def commanding(text: Text, size: int) -> CreateContainerRequest:
    """Return a request whose command is the text."""
    return asking({}, args=[text.of(size)])


# --- what texts are made of ---------------------------------------------------------------------

FRAMES: Final = (PLAIN, ("[", "]"), ("- &a [a, b]\n", ""))

YAML: Final = (
    *(",", "[", "]", "{", "}", "a,", "a{n},", "- a\n", "- *a\n", "*a,", "- &b{n} a\n", "a{n}: a\n"),
    *("? a{n}\n", ": ", "#\n", "\n", " ", "'", "''", "\\x41", "|\n a\n", "!t ", "%TAG ! a\n"),
    *("---\n", "x" * 64, "é", "0x1f,", "1.5e3,", "- <<: *a\n", "- {a{n}: b}\n", "~,", "\t"),
)

DEVICES: Final = (
    "- {path: /dev/x{n}, type: c, major: 1, minor: 3}\n",
    "- {path: /dev/y{n}, type: c, major: 1, minor: {n}, access: rwm}\n",
    "- path: /dev/null\n",
    "- path: /dev/x{n}\n",
    "- {path: /dev" + "/a" * 60 + "/{n}}\n",
    "- {path: /dev/fd/../x{n}}\n",
    "- {device: /dev/null, as: /dev/z{n}, access: r}\n",
    "- {device: 'udev:A=*a*b*c,B=*{n}'}\n",
    "- {device: 'udev:" + "KERNEL=*," * 7 + "A=x{n}', optional: true}\n",
    "- {device: 'udev:" + "ATTRS{dev}=*," * 7 + "ATTRS{b{n}}=x', optional: true}\n",
    "- {device: /dev/tty*, as: '/dev/{name}{n}', count: all}\n",
    "- {path: /dev/x{n}, pth: a, mjor: 1}\n",
    "- {path: 'x{n}'}\n",
    "- a{n}: b\n",
)

MOUNTS: Final = (
    "- {source: /etc, destination: /x{n}, type: bind, options: [bind, ro]}\n",
    "- {source: /none{n}, destination: /x{n}, type: bind, options: [ro]}\n",
    "- {source: /etc" + "/a" * 60 + ", destination: /x{n}, type: bind}\n",
    "- {destination: /x{n}, type: tmpfs, options: [" + "o{n}, " * 30 + "ro]}\n",
    "- {destination: /x{n}, options: [&l " + "l" * 4000 + "]}\n",
    "- {destination: /y{n}, type: tmpfs, options: [*l, *l]}\n",
    "- {destination: x{n}}\n",
    "- {destnation: /x{n}, optins: []}\n",
    "- {source: a{n}, destination: /etc}\n",
)

OTHERS: Final = (
    "net.a{n}.x: a\n",
    "net." + "a." * 60 + "{n}: a\n",
    "net/a{n}/..: a\n",
    "kernel.x{n}: [a]\n",
    "- {hostIf: e{n}}\n",
    "- {hostIf: e{n}, name: eth0}\n",
    "- {hostIf: " + "e" * 60 + "{n}}\n",
    "- {type: NOFILE, hard: {n}, soft: {n}}\n",
    "- {type: RLIMIT_NOFLE{n}}\n",
    "policy: SCHED_FIFO\n",
    "policy{n}: SCHED_FIF\n",
    "flags: [SCHED_FLAG_RESET_ON_FRK]\n",
    "nodes: 0-3,7\n",
    "class: IOPRIO_CLASS_RT\n",
)

NAMES: Final = (
    *(",", "a", "=", "/", "-", "v.com/c=d{n},", "- v.com/c=d{n}\n", "v.com/c=" + "d" * 60 + "{n},"),
    *("vendor0.example.com/device=d{n},", "- vendor0.example.com/device=d{n}\n"),
    *("vendor1.example.com/device=d1{n}0,", "vendor1.example.com/devise=d{n},", "é", "\n", " "),
)

WORDS: Final = (
    *("", "a", "true", "a{n}", "ab", "b" * 60, "/usr/bin/server-7", "feature7.example.com/on"),
    *(
        "x" * 200,
        "true" * 20,
        "gpu ",
        "é",
        "\n",
        "-",
        "on1",
        "server-{n} ",
        "gpu1x2",
        "g" * 40,
        "gx12",
    ),
)

_KEYS: Final = {kind.name: f"{kind.prefix}/container.{NAME}" for kind in KINDS}

MAIN_READERS: Final = (
    Reader("devices", (*DEVICES, *YAML), FRAMES, shared_by(_KEYS["devices"])),
    Reader("mounts", (*MOUNTS, *YAML), FRAMES, shared_by(_KEYS["mounts"])),
    Reader(
        "devices and mounts",
        (*DEVICES, *MOUNTS),
        (PLAIN,),
        shared_by(_KEYS["devices"], _KEYS["mounts"]),
    ),
    Reader("sysctl", (*OTHERS, *YAML), FRAMES, shared_by(_KEYS["sysctl"])),
    Reader("all eight kinds", (*OTHERS, *YAML), FRAMES, shared_by(*_KEYS.values())),
    Reader("many small annotations", WORDS, (PLAIN,), scattered("")),
    Reader("many labels", WORDS, (PLAIN,), labelled, OBJECT),
)

ASSIGNER_READERS: Final = (
    Reader(
        "how many CPUs",
        (*WORDS, "1", "9" * 60, "0"),
        (PLAIN,),
        shared_by(f"{EXCLUSIVE_CPUS}/container.{NAME}"),
    ),
)

VALIDATOR_READERS: Final = (
    Reader("required plugins", YAML, FRAMES, shared_by(f"{REQUIRED_PLUGINS}/container.{NAME}")),
)

REPORT_READERS: Final = (
    Reader("one annotation", (*WORDS, "\u2028", "\0"), (PLAIN,), shared_by("a.example.com/b")),
    Reader("many small annotations", WORDS, (PLAIN,), scattered("")),
    Reader("many labels", WORDS, (PLAIN,), labelled, OBJECT),
    Reader("many variables", WORDS, (PLAIN,), with_variables, OBJECT),
    Reader("many arguments", WORDS, (PLAIN,), with_arguments, OBJECT),
    Reader("a command", WORDS, (PLAIN,), commanding, OBJECT),
)

DEVICE_READERS: Final = (
    *MAIN_READERS,
    *(
        Reader(name, (*OTHERS, *YAML), FRAMES, shared_by(key))
        for name, key in _KEYS.items()
        if name not in ("devices", "mounts", "sysctl")
    ),
)

CDI_READERS: Final = (
    Reader("a list of CDI names", (*NAMES, *YAML), FRAMES, shared_by(f"{CDI}/container.{NAME}")),
    Reader("a text of CDI names", NAMES, (PLAIN,), shared_by("cdi.k8s.io/a")),
    Reader("many texts of CDI names", NAMES, (PLAIN,), scattered("cdi.k8s.io/")),
)

HOOK_READERS: Final = (
    Reader("an annotation for hooks", WORDS, (PLAIN,), shared_by("feature7.example.com/on")),
    Reader("many annotations for hooks", WORDS, (PLAIN,), scattered("feature")),
    Reader("many keys of one pattern", WORDS, (PLAIN,), scattered("any/")),
    Reader("a command for hooks", WORDS, (PLAIN,), commanding, OBJECT),
)
