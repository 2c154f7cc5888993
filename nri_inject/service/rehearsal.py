"""What a version finds out before it takes the place of the one that runs.

It reads the configuration and the policy, and configures itself as the runtime has configured the
running version. It serves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from nri_inject._pb import ttrpc_pb2
from nri_inject.api import ConfigureRequest, ConfigureResponse
from nri_inject.plugin import events_of
from nri_inject.service.config import Config
from nri_inject.service.health.supervisor import Supervisor
from nri_inject.service.parent.relay import Relay
from nri_inject.stub.handshake import Handshake
from nri_inject.stub.limits import DEFAULT_LIMITS


def fault_of(service: Supervisor, configured: Config, relays: Sequence[Relay]) -> str:
    """Return why a service cannot go on with the conversations of another version.

    Empty if it can. Raises NriError for a configuration that it cannot use.
    """
    asked, answered = relays[0].configuration if relays else (b"", b"")
    if asked:
        request = ConfigureRequest.FromString(ttrpc_pb2.Request.FromString(asked).payload)
        answer = ConfigureResponse.FromString(ttrpc_pb2.Response.FromString(answered).payload)
        wanted = Handshake(service.plugin, DEFAULT_LIMITS).configure(request)
        if missing := wanted.events & ~answer.events:
            return (
                f"it needs the events {', '.join(events_of(missing))}, which the runtime reports"
                " only after another registration: restart the plugin"
            )
    else:
        service.reconfigure(configured)
    document = service.document()
    policy = document["policy"] or {}
    return str(document["config_error"] or policy.get("error", ""))
