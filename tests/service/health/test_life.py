"""What of the state a worker leaves to the next one."""

from __future__ import annotations

from nri_inject.service.health.life import Life
from nri_inject.service.health.notes import Notes
from nri_inject.service.health.state import WAITS, Missed, Stale


def test_the_next_worker_has_the_counts_and_what_was_found() -> None:
    life = Life(notes=Notes())
    before = life.state("20", "tested")
    before.asked, before.changed, before.failed, before.denied, before.late = 5, 1, 2, 1, 3
    before.restarts |= {"stopped": 7, "left_out": 2}
    before.compared, before.to_compare = 4, 2
    before.missed.add("c1", Missed("ns/web", "main", ("device /dev/fuse",)))
    before.missed.add("c2", Missed("ns/web", "side", (), "denied"))
    before.drifted.add("c3", Missed("ns/web", "main", ("hook /bin/note",)))
    before.drifted.unlisted = 7
    before.stale.add("c1", Stale("ns/web", "main", ("/dev/zigbee is now 188:1",), 12.5))
    before.missed.note("c2", "stopped")
    life.keep_counts(before)
    life.keep_found(before)
    life.resumes = True
    after = life.state("20", "tested")
    life.restore(after)
    counts = after.asked, after.changed, after.failed, after.denied, after.late
    assert counts == (5, 1, 2, 1, 3)
    assert after.restarts == before.restarts
    assert (after.missed, after.drifted) == (before.missed, before.drifted)
    assert after.stale == before.stale
    assert (after.missed.count, after.drifted.count) == (2, 8)
    assert (after.compared, after.uncompared, after.to_compare) == (4, 2, 0)


def test_the_moment_without_requests_stands_beside_the_counts() -> None:
    life = Life(notes=Notes())
    state = life.state("20", "tested")
    state.late = 3
    life.keep_counts(state)
    life.note_quiet(17.25)
    assert life.quiet_until() == 17.25
    assert life.state("20", "tested").late == 3


def test_a_container_that_waits_for_its_restart_does_so_no_longer() -> None:
    life = Life(notes=Notes())
    before = life.state("20", "tested")
    before.missed.add("c1", Missed("ns/web", "main", ("device /dev/fuse",)))
    before.missed.note("c1", WAITS)
    life.keep_found(before)
    life.resumes = True
    after = life.state("20", "tested")
    life.restore(after)
    assert after.missed["c1"].restart == (
        "not restarted: the worker that was to restart it has ended"
    )
