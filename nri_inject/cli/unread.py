"""Annotations of manifests that nobody reads: in a pod, and on the object that makes the pod."""

from __future__ import annotations

from collections.abc import Iterator

from nri_inject.cdi.names import ANNOTATION_PREFIX
from nri_inject.injectors import keys
from nri_inject.injectors.keys import Adopted, Unread
from nri_inject.runtime.manifests import Planned
from nri_inject.text.words import plain


class Unreads:
    """Tells of each pod once. `found_wrong` is whether a request was among it that nobody serves.

    A fault is left out: the plugin's own error has it.
    """

    def __init__(self, adopted: Adopted) -> None:
        self.adopted = adopted
        self.found_wrong = False
        self._pods: set[str] = set()

    def of(self, planned: Planned) -> list[Unread]:
        """Return what nobody reads of the pod of a container; nothing for its next container."""
        name = planned.pod.id or f"{planned.pod.namespace}/{planned.pod.name}"
        if name in self._pods:
            return []
        self._pods.add(name)
        inside = keys.unread(planned.pod.annotations, self.adopted, planned.containers or None)
        found = [*(one for one in inside if one.level != "fault"), *_outside(planned, self.adopted)]
        self.found_wrong |= any(one.level == "wrong" for one in found)
        return found


def _outside(planned: Planned, adopted: Adopted) -> Iterator[Unread]:
    """Yield the requests that stand on the object and not on its template."""
    inside = planned.pod.annotations
    for key in planned.outside:
        alone = keys.unread({key: planned.outside[key]}, adopted, planned.containers)
        is_request = keys.is_ours(key.partition("/")[0]) or key.startswith(ANNOTATION_PREFIX)
        if (is_request or alone) and key not in inside:
            is_note = not is_request and all(one.level == "note" for one in alone)
            sentence = (
                f"it is on the {plain(planned.kind)} and not on its pods; move it to the"
                " annotations of the pod's template (spec.template.metadata.annotations)"
            )
            yield Unread(key, sentence, "note" if is_note else "wrong")
