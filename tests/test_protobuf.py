"""The messages are ordinary ones, whichever implementation of protobuf makes them."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, MutableMapping, MutableSequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from google.protobuf.message_factory import GetMessageClass

from nri_inject import _pb, api, protobuf
from nri_inject._pb import nri_pb2, ttrpc_pb2

BOUND = 30
MODULES = {"nri_pb2": nri_pb2, "ttrpc_pb2": ttrpc_pb2}
FULL = api.Container(
    id="c0",
    state=api.ContainerState.CONTAINER_RUNNING,
    labels={"a": "b"},
    args=["sh"],
    linux=api.LinuxContainer(devices=[api.LinuxDevice(path="/dev/a")]),
)


def promised(name: str) -> list[str]:
    """Return the paths of the classes and values that a module's stub tells of."""
    stub = Path(next(iter(_pb.__path__)), f"{name}.pyi")
    return list(names_in(ast.parse(stub.read_text(encoding="utf-8")).body))


def names_in(body: list[ast.stmt], outer: str = "") -> Iterator[str]:
    """Yield what a body says that a module or a class has; fields are an instance's."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield f"{outer}{node.name}"
            yield from names_in(node.body, f"{outer}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and not (outer and is_field(node)):
            yield f"{outer}{ast.unparse(node.target)}"


def is_field(node: ast.AnnAssign) -> bool:
    return not ast.unparse(node.annotation).startswith("_ClassVar")


def found(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_what_its_stub_promises(name: str) -> None:
    paths = promised(name)
    assert "DESCRIPTOR" in paths
    for path in paths:
        found(MODULES[name], path)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_class_says_where_it_is_found(module: Any) -> None:
    for name in module.DESCRIPTOR.message_types_by_name:
        message = getattr(module, name)
        assert message.__module__ == module.__name__
        assert (message.__qualname__, message.__name__) == (name, name)


def test_the_class_of_a_maps_entries_is_within_the_messages() -> None:
    entry = api.Container.LabelsEntry
    assert (entry.__module__, entry.__name__) == (nri_pb2.__name__, "LabelsEntry")
    assert entry(key="a", value="b").SerializeToString() == b"\n\x01a\x12\x01b"


def test_the_class_of_a_descriptor_is_the_one_that_protobuf_knows() -> None:
    for message in nri_pb2.DESCRIPTOR.message_types_by_name.values():
        ours = protobuf.message_class(message)
        assert ours is GetMessageClass(message)
        assert ours is getattr(nri_pb2, message.name)


def test_a_field_has_the_class_of_the_module() -> None:
    assert type(FULL.linux) is api.LinuxContainer
    assert type(FULL.linux.devices[0]) is api.LinuxDevice
    assert isinstance(FULL.labels, MutableMapping)
    assert isinstance(FULL.args, MutableSequence)


def test_a_message_is_read_written_copied_and_pickled() -> None:
    assert api.Container.FromString(FULL.SerializeToString()) == FULL
    assert copy.copy(FULL) == copy.deepcopy(FULL) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert json_format.ParseDict(json_format.MessageToDict(FULL), api.Container()) == FULL
    assert text_format.Parse(str(FULL), api.Container()) == FULL


def test_a_message_is_printed() -> None:
    assert repr(api.LinuxDevice(path="/dev/a", major=7)) == 'path: "/dev/a"\nmajor: 7\n'


def test_an_enum_knows_names_and_numbers() -> None:
    assert api.Event.Name(4) == "CREATE_CONTAINER"
    assert api.Event.Value("CREATE_CONTAINER") == api.Event.CREATE_CONTAINER == 4
    assert api.MpolFlag.items()[0] == ("MPOL_F_STATIC_NODES", api.MpolFlag.values()[0])
    assert api.ContainerState.keys()[0] == "CONTAINER_UNKNOWN"
    assert api.LogRequest.Level.Value("LEVEL_WARN") == api.LogRequest.LEVEL_WARN == 3
    with pytest.raises(ValueError, match="has no value defined for name 'NONE'"):
        api.Event.Value("NONE")


# --- the other implementation --------------------------------------------------------------------


PYTEST = (sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider")


def test_it_is_all_so_with_the_implementation_in_python() -> None:
    done = subprocess.run(
        [*PYTEST, "-k", "not with_the_implementation_in_python", __file__],
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        timeout=BOUND,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def implementation(**environ: str) -> str:
    """Return which implementation a new process uses."""
    program = (
        "import json; from nri_inject import api;"
        " from google.protobuf.internal import api_implementation as found;"
        " print(json.dumps(found.Type()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        capture_output=True,
        timeout=BOUND,
        check=True,
    )
    return str(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["upb", "python"])
def test_both_implementations_can_be_asked_for(name: str) -> None:
    assert implementation(PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=name) == name
