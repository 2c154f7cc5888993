"""A policy in a file, kept current. What is in force is always a policy that could be read.

A file that cannot be read, or that others could have written, denies everything as long as no
good version of it has been seen; after that the last good version stays in force. So it does while
a program writes the file: half a policy may be a policy, and allow more than the whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Final

from nri_inject.errors import ConfigError
from nri_inject.host import walk
from nri_inject.host.follow import File, Follower, Parsed, Rule
from nri_inject.host.model import Place
from nri_inject.policy import document
from nri_inject.policy.rules import Policy
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

DENY_ALL: Final = Policy(origin="this node's policy (none is configured)")
"""The policy of who has none."""


def check_lent(policy: Policy, files: Iterable[str], root: str = "/") -> None:
    """Raise ConfigError if a policy lets containers write a file that it depends on.

    Only files of the host count, whose tree is below `root`: a plugin in a container has others.
    """
    for file in files:
        try:
            below = root.rstrip("/") + file
            if not os.path.samestat(os.stat(file), os.stat(below)):
                continue
            *way, end = walk.steps(file, root)
        except OSError:
            continue
        links = tuple(step.path for step in way if step.target)
        why = policy.lent.rewritable(Place(end.path, links=links))
        if why is not None:
            raise ConfigError(
                f"{policy.origin}: a rule for mounts lets containers write {plain(file)}, on which"
                f" the policy depends: {why}"
            )


RULE: Final = Rule(half_written=True, faulty=True, unbelieved=True, gone=True)
"""The version of a policy that counts while the newest one cannot be used."""


class PolicyFile:
    """The policy that a file holds; `unsafe` does not ask who could have written it.

    `beside` are other files that the policy depends on, such as the configuration that names it.
    `root` is where the host's file tree is seen. Errors are logged once each. Not for use by
    several threads at once.
    """

    def __init__(
        self, path: str, *, unsafe: bool = False, beside: Sequence[str] = (), root: str = "/"
    ) -> None:
        self._path = os.path.abspath(path)  # links stay
        self._believed = () if unsafe else (self._path, *beside)
        self._root = root
        self._error = ""
        self._policy = Policy(origin=self._path, trouble="the policy has not been read yet")
        self._follower = Follower(
            self._parse,
            RULE,
            files=[self._path],
            max_size=document.LIMITS.size,
            unsafe=unsafe,
            sealed=True,
        )
        self.current()

    def current(self) -> Policy:
        """Return the policy as the file is now, or as it was when it was last good."""
        if self._follower.look():
            self._take(self._follower.files[self._path])
        return self._policy

    @property
    def error(self) -> str:
        """What is wrong with the file as it is now; nothing if it is in force."""
        return self._error

    def fileno(self) -> int:
        """Return a descriptor that can be read when the file may have changed."""
        return self._follower.fileno()

    def ready(self) -> None:
        """Take in a change, so that no container has to wait for it."""
        self.current()

    def close(self) -> None:
        """Stop watching."""
        self._follower.close()

    def _parse(self, path: str, data: bytes) -> Parsed[Policy]:
        try:
            policy = document.read(data, plain(path))
            check_lent(policy, self._believed, self._root)
        except ConfigError as error:
            return Parsed(None, "faulty", str(error))
        return Parsed(policy)

    def _take(self, file: File[Policy]) -> None:
        """Put in force what counts, or nothing, and log what is new."""
        error, before = file.sentence, self._error
        self._error = error
        if file.counts is None:
            reason = f"the policy on this node cannot be used: {error}"
            self._policy = Policy(origin=plain(self._path), trouble=reason)
        elif file.counts is not self._policy or (before and not error):
            self._policy = file.counts
            log.info("policy %s: %d rules are in force", plain(self._path), len(self._policy.rules))
        if not error or error == before or file.trouble == "half written":
            return
        if file.counts is None:
            log.error("policy not usable, so everything is denied: %s", error)
        else:
            log.error("policy not taken over, the version before it stays in force: %s", error)
