"""A policy in a file, kept current. A version that cannot be used is never in force.

The version before stays in force for as long as the process runs, whatever becomes of its workers.
A process that starts with a version that cannot be used denies everything: it may be a tightening
with a mistake, and the looser version must not live on. Where the admin has chosen so, the last
good version is in force instead. While a program writes the file, too, the version before counts:
half a policy may be a policy, and allow more than the whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Final, Literal, NamedTuple

from nri_inject.errors import ConfigError, Faulty
from nri_inject.host import walk
from nri_inject.host.follow import FollowedFile, Follower, FollowRule, ParsedFile
from nri_inject.host.model import HostPath
from nri_inject.host.views import look
from nri_inject.policy import document
from nri_inject.policy.gifts import ReadGifts
from nri_inject.policy.kept import LastGoodPolicy
from nri_inject.policy.rules import Policy
from nri_inject.text.times import timestamp
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

DENY_ALL: Final = Policy(origin="this node's policy (none configured)")
"""The policy of who has none."""


def check_lent(policy: Policy, files: Iterable[str], root: str = "/") -> None:
    """Raise Faulty if a policy lets containers write a file that it depends on.

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
            raise Faulty(
                f"{policy.origin}: a rule for mounts lets containers write {plain(file)}, on which"
                f" the policy depends: {why}"
            )


RULE: Final = FollowRule(half_written=True, faulty=True, untrusted=True, gone=True)
"""The version of a policy that counts while the newest one cannot be used."""


class Standing(NamedTuple):
    """Which version of a policy file is in force.

    That is its newest one, the one `before`, the one that was `kept` before the process started, or
    nothing, and then everything is denied. `written` is when that version was written, in seconds
    since 1970. `error` says why the newest one is not in force.
    """

    file: str
    in_force: Literal["newest", "before", "kept", "nothing"]
    written: float | None
    error: str


class PolicyFile:
    """The policy in a file; `unsafe` skips the check of its owner and mode.

    `beside` are other files that the policy depends on, such as the configuration that names it.
    `root` is where the host's file tree is seen. `kept` is where the last good version is kept;
    None keeps none. `before` is in force until there is a good version. `inherited` is the text
    that was in force in a worker before this one, and `note` gets each text for the next worker.
    `on_change` is called when another policy is in force, and `later` with work that no container
    waits for. Errors are logged once each. Not for use by several threads at once.
    """

    def __init__(
        self,
        path: str,
        read_gifts: ReadGifts = document.no_gifts,
        *,
        unsafe: bool = False,
        beside: Sequence[str] = (),
        root: str = "/",
        kept: LastGoodPolicy | None = None,
        before: Policy | None = None,
        inherited: bytes = b"",
        note: Callable[[bytes], object] = bool,
        on_change: Callable[[], None] = lambda: None,
        later: Callable[[Callable[[], None]], None] = lambda do: do(),
    ) -> None:
        self._path = os.path.abspath(path)  # links stay
        self._read_gifts = read_gifts
        copies = () if kept is None else (kept.path,)
        self._believed = () if unsafe else (self._path, *beside, *copies)
        self._root = root
        self._kept = kept
        self._inherited = inherited
        self._note = note
        self._on_change = on_change
        self._later = later
        self._unkept: tuple[bytes, int] | None = None
        self.good = before
        self.standing = Standing(self._path, "nothing" if before is None else "before", None, "")
        self._policy = before or Policy(trouble="the policy is not read yet")
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
        """The fault of the current file; empty if it is in force."""
        return self.standing.error

    def fileno(self) -> int:
        """Return a descriptor that can be read when the file may have changed."""
        return self._follower.fileno()

    def ready(self) -> None:
        """Take in a change, so that no container has to wait for it."""
        self.current()
        self._keep()

    def close(self) -> None:
        """Stop watching."""
        self._follower.close()

    def _parse(self, _: str, data: bytes) -> ParsedFile[_PolicyVersion]:
        try:
            return ParsedFile(_PolicyVersion(self._checked(data), data))
        except ConfigError as error:
            return ParsedFile(None, "faulty", str(error))

    def _checked(self, data: bytes) -> Policy:
        policy = document.read(data, plain(self._path), self._read_gifts)
        check_lent(policy, self._believed, self._root)
        return policy

    def _take(self, file: FollowedFile[_PolicyVersion]) -> None:
        """Put in force what counts, and log what is new."""
        before = self.good, self.standing
        if file.trouble or file.counts is None:
            self._stay(file)
        elif file.counts.policy is not self.good or self.error:
            self.good = self._policy = file.counts.policy
            self.standing = Standing(self._path, "newest", file.written / 1e9, "")
            log.info("policy %s: %d rules are in force", plain(self._path), len(self.good.rules))
            self._note(file.counts.text)
            if self._kept is not None:
                self._unkept = file.counts.text, file.written
                self._later(self._keep)
        if (self.good, self.standing) != before:
            self._on_change()

    def _stay(self, file: FollowedFile[_PolicyVersion]) -> None:
        """Leave in force what is; else take what was kept, or deny everything."""
        error, before = file.sentence, self.standing
        if before.in_force == "newest":
            before = before._replace(in_force="before")
        if self.good is None:
            before = self._taken_over(before) or self._recalled(before)
        self.standing = before._replace(error=error)
        if self.good is None:
            reason = f"the policy on this node is not usable: {error}"
            self._policy = Policy(origin=plain(self._path), trouble=reason)
        elif file.trouble != "half written":
            which = plain(self.good.origin)
            if before.written is not None:
                which = f"the version of {timestamp(before.written)}"
            self._policy = self.good.outdated(f"{error}; {which} is in force")
        elif self._policy.trouble:
            self._policy = self.good
        if file.trouble == "half written" or error == before.error:
            return
        if self.good is None:
            log.error(
                "policy rejected, and no previous version exists, so everything is denied: %s",
                error,
            )
        elif before.in_force == "kept":
            log.error("policy not usable, the last good version is in force: %s", error)
        else:
            log.error("policy rejected, the previous version stays in force: %s", error)

    def _taken_over(self, standing: Standing) -> Standing | None:
        """Take the version that was in force in a worker before, None if there was none."""
        if not self._inherited:
            return None
        try:
            self.good = self._checked(self._inherited)
        except ConfigError as error:
            log.error("the policy of the worker before cannot be used: %s", error)
            return None
        return standing._replace(in_force="before")

    def _recalled(self, standing: Standing) -> Standing:
        """Take the version that was kept when the policy was last good, if there is one."""
        if self._kept is None:
            return standing
        try:
            file = self._kept.read()
            self.good = self._checked(file.counts or b"")
        except ConfigError as error:
            log.error("no last good version of the policy can be used: %s", error)
            return standing
        return standing._replace(in_force="kept", written=file.written / 1e9)

    def _keep(self) -> None:
        """Keep the newest good version for a process that starts with a faulty one."""
        if self._kept is None or self._unkept is None:
            return
        text, written = self._unkept
        self._unkept = None
        try:
            self._kept.write(text, written)
        except OSError as error:
            log.error("the policy is not kept in %s: %s", plain(self._kept.path), error.strerror)


class _PolicyVersion(NamedTuple):
    """A good version of a policy file, and its text."""

    policy: Policy
    text: bytes
