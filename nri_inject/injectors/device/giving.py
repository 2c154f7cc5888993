"""Give what rules of the policy give of the kinds of this injector's annotations."""

from __future__ import annotations

from typing import Final, cast

from nri_inject import capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.injectors.device.injector import KINDS
from nri_inject.injectors.device.linux import shared_sysctls
from nri_inject.injectors.device.wish import Wish
from nri_inject.injectors.giving import Give
from nri_inject.injectors.host import Host
from nri_inject.policy.gifts import Gift
from nri_inject.text.fields import Fault

_FIELDS: Final = {**{kind.name: kind.field for kind in KINDS}, "env": "env"}


def give(gift: Gift, pod: Pod, container: Container, host: Host) -> Adjustment:
    """Return what a gift adds to a container; Fault and RequestError say why it adds nothing."""
    loss = capabilities.unsupported(_FIELDS[gift.kind], host.runtime)
    if loss is not None:
        raise Fault(capabilities.sentence(loss, host.runtime))
    found = cast(Wish, gift.value)(host, container)
    if gift.kind == "devices" and not found.linux.devices:  # an optional one
        return Adjustment()
    if wrong := shared_sysctls(found, pod):
        raise Fault(*wrong)
    return found if host.permit is None else host.permit.filter(found, host)


GIVERS: Final = dict.fromkeys(_FIELDS, cast(Give, give))
