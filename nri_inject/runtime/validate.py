"""The default validator: what runtimes can forbid plugins without a validator of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from nri_inject import api
from nri_inject.errors import ConfigError, NriError
from nri_inject.text.annotations import find
from nri_inject.text.fields import Fault, Field, described, list_of, map_of, read_flag, read_string
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamlscalars import as_text
from nri_inject.text.yamltext import ANNOTATION, Value, YamlError, load

REQUIRED_PLUGINS: Final = "required-plugins.noderesource.dev"
"""The pod annotation with a list of further plugins that have to be there."""

# A list of a few names, whatever a pod's author makes of it.
_PLUGINS: Final = replace(ANNOTATION, nodes=1000)

# What Go's strconv.ParseBool accepts.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the validator; by default only a pod's own annotation has an effect.

    A required plugin is named as `name` or as `NN-name`. The annotation with the name
    `tolerate_missing_plugins_annotation` allows a pod to do without required plugins.
    """

    reject_oci_hooks: bool = False
    reject_runtime_default_seccomp: bool = False
    reject_unconfined_seccomp: bool = False
    reject_custom_seccomp: bool = False
    reject_namespaces: bool = False
    reject_sysctl: bool = False
    required_plugins: tuple[str, ...] = ()
    tolerate_missing_plugins_annotation: str = ""


def _read_names(value: Value) -> tuple[str, ...]:
    return tuple(list_of(read_string)(value))


_KEYS: Final = map_of(
    (
        Field("enable", read_flag),
        Field("rejectOCIHookAdjustment", read_flag, to="reject_oci_hooks"),
        Field(
            "rejectRuntimeDefaultSeccompAdjustment",
            read_flag,
            to="reject_runtime_default_seccomp",
        ),
        Field("rejectUnconfinedSeccompAdjustment", read_flag, to="reject_unconfined_seccomp"),
        Field("rejectCustomSeccompAdjustment", read_flag, to="reject_custom_seccomp"),
        Field("rejectNamespaceAdjustment", read_flag, to="reject_namespaces"),
        Field("rejectSysctlAdjustment", read_flag, to="reject_sysctl"),
        Field("requiredPlugins", _read_names, to="required_plugins"),
        Field(
            "tolerateMissingPluginsAnnotation",
            read_string,
            to="tolerate_missing_plugins_annotation",
        ),
    ),
    strict=True,
)


class Rejection(NriError):
    """Say why the adjusted container may not be created."""


def read_rules(configuration: Mapping[str, Any]) -> Rules | None:
    """Read the validator's configuration with the keys of NRI; None if it is not enabled.

    Raises ConfigError for keys that do not exist and values of the wrong kind.
    """
    try:
        values = _KEYS(dict(configuration))
    except Fault as fault:
        raise ConfigError("; ".join(fault.sentences)) from fault
    is_enabled = values.pop("enable", False)
    return Rules(**values) if is_enabled else None


def validate(rules: Rules, request: api.ValidateContainerAdjustmentRequest) -> None:
    """Raise Rejection with the first thing that the rules forbid."""
    for check in _CHECKS:
        check(rules, request)


_Request = api.ValidateContainerAdjustmentRequest


def _hooks(rules: Rules, request: _Request) -> None:
    owner = _simple_owner(request, api.Field.OciHooks)
    if rules.reject_oci_hooks and owner and request.HasField("adjust"):
        raise Rejection(f"OCI hooks may not be added, but {_plugins(owner)} did")


def _seccomp(rules: Rules, request: _Request) -> None:
    owner = _simple_owner(request, api.Field.SeccompPolicy)
    if not owner or not request.HasField("adjust"):
        return
    linux = request.container.linux
    kind = linux.seccomp_profile.profile_type if linux.HasField("seccomp_profile") else _UNCONFINED
    rule, name = _SECCOMP.get(kind, ("", ""))
    if rule and getattr(rules, rule):
        raise Rejection(f"{name} seccomp policy may not be changed, but {_plugins(owner)} did")


def _namespaces(rules: Rules, request: _Request) -> None:
    owners = _compound_owners(request, api.Field.Namespace)
    if rules.reject_namespaces and owners and request.HasField("adjust"):
        raise Rejection(f"namespaces may not be changed, but {_listed(owners)}")


def _required_plugins(rules: Rules, request: _Request) -> None:
    if _tolerates_missing(rules, request):
        return
    known = {name for each in request.plugins for name in (each.name, f"{each.index}-{each.name}")}
    required = [*rules.required_plugins, *_annotated_plugins(request)]
    if missing := [name for name in required if name not in known]:
        names = ", ".join(missing)
        raise Rejection(f"required {_one_or_more('plugin', missing)} not there: {names}")


def _sysctl(rules: Rules, request: _Request) -> None:
    # A removal passes: its key has a mark in the adjustment, and its owner has none.
    owners = _compound_owners(request, api.Field.Sysctl)
    changed = {key: owners[key] for key in request.adjust.linux.sysctl if key in owners}
    if rules.reject_sysctl and changed:
        raise Rejection(f"sysctl may not be set, but {_listed(changed)}")


def _tolerates_missing(rules: Rules, request: _Request) -> bool:
    found = _annotation(request, rules.tolerate_missing_plugins_annotation)
    if found is None:
        return False
    key, text = found
    if text not in _BOOLEANS:
        raise Rejection(f"annotation {plain(key)}: got {quoted(text)}, expected true or false")
    return _BOOLEANS[text]


def _annotated_plugins(request: _Request) -> Iterator[str]:
    found = _annotation(request, REQUIRED_PLUGINS)
    if found is None:
        return
    key, text = found
    place = f"annotation {plain(key)}"
    try:
        names = load(text, _PLUGINS)
    except YamlError as error:
        raise Rejection(f"{place}: {error}") from error
    if not isinstance(names, list | None):
        raise Rejection(f"{place}: got {described(names)}, expected a list of plugins")
    for name in names or ():
        yield _plugin_name(name, place)


def _plugin_name(name: Value, place: str) -> str:
    if isinstance(name, list | dict | float):
        raise Rejection(f"{place}: got {described(name)}, expected a plugin's name")
    return "" if name is None else as_text(name)


def _annotation(request: _Request, key: str) -> tuple[str, str] | None:
    if not key:
        return None
    return find(request.pod.annotations, key, "", request.container.name)


def _owners(request: _Request) -> api.FieldOwners:
    found = request.owners.owners.get(request.container.id)
    return api.FieldOwners() if found is None else found


def _simple_owner(request: _Request, field: int) -> str:
    return str(_owners(request).simple.get(field, ""))


def _compound_owners(request: _Request, field: int) -> dict[str, str]:
    found = _owners(request).compound.get(field)
    return {} if found is None else {key: found.owners[key] for key in sorted(found.owners)}


def _plugins(owner: str) -> str:
    names = owner.split(",")
    return f"{_one_or_more('plugin', names)} {', '.join(names)}"


def _one_or_more(noun: str, items: list[str]) -> str:
    return noun if len(items) == 1 else f"{noun}s"


def _listed(owners: Mapping[str, str]) -> str:
    return ", ".join(f"plugin {owner} did: {key}" for key, owner in owners.items())


_CHECKS: tuple[Callable[[Rules, _Request], None], ...] = (
    _hooks,
    _seccomp,
    _namespaces,
    _required_plugins,
    _sysctl,
)

_UNCONFINED: int = api.SecurityProfile.UNCONFINED  # also what a missing profile counts as
_SECCOMP: dict[int, tuple[str, str]] = {
    api.SecurityProfile.RUNTIME_DEFAULT: (
        "reject_runtime_default_seccomp",
        "the runtime's default",
    ),
    api.SecurityProfile.UNCONFINED: ("reject_unconfined_seccomp", "an unconfined container's"),
    api.SecurityProfile.LOCALHOST: ("reject_custom_seccomp", "a custom"),
}
