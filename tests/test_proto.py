"""The generated modules say what the .proto files say."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from nri_inject._pb import nri_pb2, ttrpc_pb2
from nri_inject.api import Adjustment, Container, ContainerUpdate, Pod

SOURCES = Path(__file__).parents[1] / "proto"
PACKAGE = "nri_inject/_pb"
GENERATED = {file.name: file for file in (nri_pb2.DESCRIPTOR, ttrpc_pb2.DESCRIPTOR)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """Compile the sources anew; return their descriptors by name of the file."""
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools to compile proto/*.proto")
    target = tmp_path_factory.mktemp("compiled") / "descriptors"
    sources = [str(path) for path in sorted(SOURCES.glob("*.proto"))]
    options = (f"--proto_path={PACKAGE}={SOURCES}", f"--descriptor_set_out={target}")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", *options, *sources],
        check=True,
        timeout=60,
    )
    files = FileDescriptorSet.FromString(target.read_bytes()).file
    return {file.name: file for file in files}


def without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    """Drop what compilers derive from the names of fields: generated code goes without it."""
    plain = FileDescriptorProto()
    plain.CopyFrom(file)
    for message in plain.message_type:
        clear_json_names(message)
    return plain


def clear_json_names(message: DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        clear_json_names(nested)


def test_every_source_has_its_generated_module() -> None:
    assert {f"{PACKAGE}/{path.name}" for path in SOURCES.glob("*.proto")} == GENERATED.keys()


def test_stubs_have_the_docstrings_that_help_shows() -> None:
    """Editors read stubs, and `help` reads classes."""
    stubs = ast.parse(Path(nri_pb2.__file__).with_suffix(".pyi").read_text())
    classes = {node.name: node for node in stubs.body if isinstance(node, ast.ClassDef)}
    for message in (Pod, Container, Adjustment, ContainerUpdate):
        shown = inspect.getdoc(message)
        assert shown
        assert ast.get_docstring(classes[message.DESCRIPTOR.name]) == shown


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_generated_modules_match_their_sources(
    name: str, compiled: dict[str, FileDescriptorProto]
) -> None:
    generated = FileDescriptorProto.FromString(GENERATED[name].serialized_pb)
    assert without_json_names(generated) == without_json_names(compiled[name])
