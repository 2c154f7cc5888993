"""Message classes from a file descriptor, with no more of protobuf than its core in C needs.

What protoc writes asks `google.protobuf.internal.builder` for them. That loads protobuf's
implementation in Python, its text format and pickle: 1.2 MB and 10 ms of each plugin's launch, of
which the core in C uses nothing. So `proto/generate.py` writes modules that call `load` instead.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message


def load(module: dict[str, Any], serialized: bytes) -> None:
    """Fill a module's names from its file descriptor, as the classes and enums of a .pyi say.

    `module` are the globals of the module that calls.
    """
    # A private name, but the one that code written by protoc asks as well.
    if descriptor._USE_C_DESCRIPTORS:
        _load(module, serialized)
    else:
        _load_in_python(module, serialized)


def message_class(of: Descriptor) -> type[Message]:
    """Return the class of a message of a file that was loaded.

    `google.protobuf.message_factory` would say the same, and load what this module avoids.
    """
    found: type[Message] = of._concrete_class  # type: ignore[attr-defined]
    return found


def _load(module: dict[str, Any], serialized: bytes) -> None:
    # Given serialized data, this registers the file with the default pool and reads no name.
    file = FileDescriptor(name="", package="", serialized_pb=serialized)
    module["DESCRIPTOR"] = file
    for name, enum in file.enum_types_by_name.items():
        module[name] = EnumTypeWrapper(enum)
        module.update((value.name, value.number) for value in enum.values)
    for name, message in file.message_types_by_name.items():
        module[name] = _new_class(message, module["__name__"])


def _new_class(of: Descriptor, module: str, outer: str = "") -> type[Message]:
    """Return a new class, the classes within it first; what maps are made of has one, too."""
    # Can be imported only where the core in C is in use, and has no types.
    from google.protobuf.pyext.cpp_message import (  # type: ignore[import-not-found]
        GeneratedProtocolMessageType,
    )

    path = f"{outer}{of.name}"
    inner = {
        name: _new_class(message, module, f"{path}.")
        for name, message in of.nested_types_by_name.items()
    }
    names = {**inner, "DESCRIPTOR": of, "__module__": module, "__qualname__": path}
    created: type[Message] = GeneratedProtocolMessageType(of.name, (Message,), names)
    return created


def _load_in_python(module: dict[str, Any], serialized: bytes) -> None:
    """Do as protoc's code does: without the core in C the rest is needed anyway."""
    from google.protobuf import descriptor_pool
    from google.protobuf.internal import builder

    file = descriptor_pool.Default().AddSerializedFile(serialized)
    module["DESCRIPTOR"] = file
    builder.BuildMessageAndEnumDescriptors(file, module)
    builder.BuildTopDescriptorsAndMessages(file, module["__name__"], module)
