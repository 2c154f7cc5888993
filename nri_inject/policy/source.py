"""A policy in a file, kept current. The policy in force is always one that could be read.

A file that cannot be read, or that other users could have written, denies everything until the
first good version; after that the last good version stays in force. The same holds while a program
writes the file: half a policy may be a policy, and allow more than the whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Final

from nri_inject.errors import ConfigError
from nri_inject.host import trust, walk
from nri_inject.host.model import HostPath
from nri_inject.host.views import look
from nri_inject.host.watch import FileWatch
from nri_inject.policy import document
from nri_inject.policy.rules import Policy
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

DENY_ALL: Final = Policy(origin="this node's policy (none configured)")
"""The policy of who has none."""

# A file that changes while it is read is read again, but not for ever.
_MOST_READS: Final = 3


def check_lent(policy: Policy, files: Iterable[str], root: str = "/") -> None:
    """Raise ConfigError if a policy lets containers write a file that it depends on.

    Only files of the host count, whose tree is below `root`: a plugin in a container has others.
    """
    lent = policy.lent.on(cache(partial(look, root)))
    for file in files:
        try:
            below = root.rstrip("/") + file
            if not os.path.samestat(os.stat(file), os.stat(below)):
                continue
            *way, end = walk.steps(file, root)
        except OSError:
            continue
        links = tuple(step.path for step in way if step.target)
        why = lent.rewritable(HostPath(end.path, links=links))
        if why is not None:
            raise ConfigError(
                f"{policy.origin}: a rule for mounts lets containers write {plain(file)}, on which"
                f" the policy depends: {why}"
            )


class PolicyFile:
    """The policy in a file; `unsafe` skips the check of its owner and mode.

    `beside` are other files that the policy depends on, such as the configuration that names it.
    `root` is the directory of the host's file tree. Errors are logged once each. Not for use by
    several threads at once.
    """

    def __init__(
        self, path: str, *, unsafe: bool = False, beside: Sequence[str] = (), root: str = "/"
    ) -> None:
        self._path = os.path.abspath(path)  # links stay
        self._unsafe = unsafe
        self._believed = (self._path, *beside)
        self._root = root
        self._watch = FileWatch(())
        self._watch.follow([self._path])
        self._data: bytes | None = None
        self._error = ""
        self._policy = Policy(origin=self._path, trouble="the policy is not read yet")
        self._has_been_good = False
        self._watch.changed()  # which is so after `follow`
        self._look()

    def current(self) -> Policy:
        """Return the policy as the file is now, or as it was when it was last good."""
        if self._watch.changed():
            self._look()
        return self._policy

    @property
    def error(self) -> str:
        """The fault of the current file; empty if it is in force."""
        return self._error

    def fileno(self) -> int:
        """Return a descriptor that can be read when the file may have changed."""
        return self._watch.fileno()

    def ready(self) -> None:
        """Take in a change, so that no container has to wait for it."""
        self.current()

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def _look(self) -> None:
        try:
            data = self._read()
            if self._watch.is_writing(self._path):  # its end is reported as a change
                self._keep(f"{plain(self._path)} is being written")
                return
            if data == self._data and not self._error:
                return
            found = document.read(data, plain(self._path))
            if not self._unsafe:
                check_lent(found, self._believed, self._root)
        except trust.Untrusted as error:
            self._fail(f"{error}; refusing to read it")
            return
        except OSError as error:
            self._fail(f"cannot read {plain(self._path)}: {error.strerror}")
            return
        except ConfigError as error:
            self._fail(str(error))
            return
        log.info("policy %s: %d rules are in force", plain(self._path), len(found.rules))
        self._data, self._policy, self._error = data, found, ""
        self._has_been_good = True

    def _read(self) -> bytes:
        for _ in range(_MOST_READS):
            data = trust.read(self._path, document.LIMITS.size + 1, unsafe=self._unsafe)
            if not self._watch.changed():
                break
        return data

    def _fail(self, error: str) -> None:
        if error == self._error:
            return
        if self._has_been_good:
            log.error("policy rejected, the previous version stays in force: %s", error)
        else:
            log.error(
                "policy rejected, and no previous version exists, so everything is denied: %s",
                error,
            )
        self._keep(error)

    def _keep(self, error: str) -> None:
        """Keep the policy in force; deny everything if there is none."""
        self._error = error
        if self._has_been_good:
            return
        reason = f"the policy on this node is not usable: {error}"
        self._policy = Policy(origin=plain(self._path), trouble=reason)
