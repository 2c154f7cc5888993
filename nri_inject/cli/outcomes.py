"""What `nri-inject try` prints of an outcome, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf import json_format

from nri_inject import api
from nri_inject.cdi.names import ANNOTATION_PREFIX
from nri_inject.cli.decisions import Decided, Decider, explained
from nri_inject.cli.unread import Unreads
from nri_inject.injectors import cdi, device, keys
from nri_inject.injectors.keys import Adopted
from nri_inject.runtime.manifests import Planned
from nri_inject.runtime.trial import Outcome, update_json, without_empty
from nri_inject.runtime.world import Made
from nri_inject.service import logs
from nri_inject.text import yamltext
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.words import plain, quoted


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the line for programs."""
    line: dict[str, Any] = {"pod": outcome.pod, "container": outcome.container}
    if outcome.made is None:
        return line | {"error": outcome.error}
    asked = without_empty(outcome.made.adjust)
    for lost in outcome.made.created.lost:  # what plugins want, also where this runtime drops it
        asked.MergeFrom(lost.part)
    return line | {
        "adjust": json_format.MessageToDict(asked),
        "update": [update_json(each) for each in outcome.updates],
    }


def as_text(explainer: Explainer, outcome: Outcome) -> Iterator[str]:
    """Yield a container's requests, the injections by plugin, and the changes in its spec."""
    yield where(outcome.planned.pod, outcome.planned.container)
    for key, value in _asked(outcome.planned, explainer.adopted):
        yield f"  asks   {key}: {value}"
    for sentence in explainer.unread(outcome.planned):
        yield f"  unread {logs.one_line(sentence)}"
    if outcome.made is None:
        yield f"  fails  {logs.one_line(outcome.error)}"
    else:
        yield from _given(outcome.planned, outcome.made, explainer)
    for sentence in outcome.life:
        yield f"  life   {logs.one_line(sentence)}"


def _given(planned: Planned, made: Made, explainer: Explainer) -> Iterator[str]:
    """Yield the injections with plugin and rule, lost fields, and changes in the spec."""
    owners = made.created.owners.owners.get(planned.container.id)
    if owners is None or not without_empty(made.adjust).ByteSize():
        yield "  gets   nothing"
    else:
        for line, plugin in _owned(owners):
            yield f"  gets   {line} from {plugin}"
        for line in explainer.reasons(planned):
            yield f"  policy {line}"
    for sentence in explainer.warned(planned):
        yield f"  warns  {logs.one_line(sentence)}"
    for lost in made.created.lost:
        yield f"  lost   {lost.loss.field} from {lost.plugin}, dropped without an error"
    for line in _difference(made.before, made.spec, ""):
        yield f"  OCI    {line}"


class Explainer:
    """Tell why the suite's injectors give what they give, and what they read not.

    Without a decider none of them is there. `always` is what is said of the policy in any case.
    """

    def __init__(
        self, decider: Decider | None, unreads: Unreads | None, always: Sequence[str] = ()
    ) -> None:
        self._decider = decider
        self._unreads = unreads
        self._always = always

    @property
    def adopted(self) -> Adopted:
        """The other injectors whose annotations are read."""
        return frozenset() if self._unreads is None else self._unreads.adopted

    @property
    def found_wrong(self) -> bool:
        """Whether some pod has a request that nobody reads."""
        return self._unreads is not None and self._unreads.found_wrong

    def reasons(self, planned: Planned) -> Sequence[str]:
        """Return a line for each decision."""
        if self._decider is None or self._always:
            return self._always
        return [explained(decision) for decision in self._decided(planned).decisions]

    def unread(self, planned: Planned) -> Sequence[str]:
        """Return a sentence for each annotation of the pod that nobody reads."""
        return [] if self._unreads is None else [*map(str, self._unreads.of(planned))]

    def warned(self, planned: Planned) -> Sequence[str]:
        """Return what the injectors warn of."""
        return [] if self._decider is None else self._decided(planned).warnings

    def warnings(self, planned: Planned) -> Sequence[str]:
        """Return both."""
        return [*self.unread(planned), *self.warned(planned)]

    def _decided(self, planned: Planned) -> Decided:
        return (
            Decided((), ())
            if self._decider is None
            else self._decider.decide(planned.pod, planned.container)
        )

    def close(self) -> None:
        """Stop watching files."""
        if self._decider is not None:
            self._decider.close()


def _asked(planned: Planned, adopted: Adopted) -> Iterator[tuple[str, str]]:
    """Yield the annotations that count for this container, each value on one line."""
    annotations = planned.pod.annotations
    prefixes = [(kind.prefix, kind.old_prefix) for kind in device.KINDS]
    prefixes.append((cdi.PREFIX, cdi.OLD_PREFIX))
    name = container_name(planned.container)
    for prefix, old_prefix in prefixes:
        found = find(annotations, prefix, old_prefix, name)
        if found is not None:
            key, text = found
            yield plain(key), _on_one_line(text)
    others = (other.find(annotations, name) for other in keys.OTHERS if other.word in adopted)
    of_pod = sorted(key for key in annotations if key.startswith(ANNOTATION_PREFIX))
    of_cdi = ((key, annotations[key]) for key in of_pod if keys.CDI in adopted)
    for found in (*others, *of_cdi):
        if found is not None:
            yield plain(found[0]), _on_one_line(found[1])


def _on_one_line(text: str) -> str:
    try:
        return json.dumps(yamltext.load(text))
    except yamltext.YamlError:
        return quoted(text)


def _owned(owners: api.FieldOwners) -> Iterator[tuple[str, str]]:
    """Yield every field and key that a plugin has set, and the plugin's name."""
    for field, plugin in sorted(owners.simple.items()):
        yield _FIELD_NAMES[field], plugin
    for field, compound in sorted(owners.compound.items()):
        for key, plugin in sorted(compound.owners.items()):
            yield f"{_FIELD_NAMES[field]} {plain(key)}", plugin


_FIELD_NAMES: Final = {value: name for name, value in api.Field.items()}


def _difference(before: Any, after: Any, place: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inside = f"{place}.{key}" if place else key
            yield from _difference(before.get(key), after.get(key), inside)
        return
    # Lists are compared without order: runtimes sort the mounts whenever one is added.
    old, new = ([] if value is None else _listed(value) for value in (before, after))
    yield from (f"- {place} {json.dumps(item)}" for item in old if item not in new)
    yield from (f"+ {place} {json.dumps(item)}" for item in new if item not in old)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
