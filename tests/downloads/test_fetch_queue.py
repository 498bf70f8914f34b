"""Who is fetched next."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.downloads.fetch_queue import (
    ALL,
    MAX_PLACELESS,
    MAX_PLACELESS_OF_HOST,
    NEW_DIVISOR,
    FetchQueue,
)
from twisted_bulk.downloads.queue_state import Speed


class LanesTests(SynchronousTestCase):
    """Owners with hosts of all kinds."""

    def queue(self, places: int, per_host: int, fast: str = "") -> FetchQueue[Any]:
        """With hosts that are known to be fast."""
        queue: FetchQueue[Any] = FetchQueue(lambda name, owner: places if name == ALL else per_host)
        for host in fast.split():
            queue.note(host, Speed.FAST)
        return queue

    def take(self, queue: FetchQueue[Any], count: int) -> list[Any]:
        """What comes, and None where nothing does."""
        taken = [queue.take() for _ in range(count)]
        return [one and one.item for one in taken]

    def test_owners_take_turns(self) -> None:
        """A big batch does not hold up a small one, which has the first turn."""
        queue = self.queue(99, 99, "h")
        for n in range(5):
            queue.add("big", "h", f"b{n}")
        self.assertEqual(self.take(queue, 1), ["b0"])
        queue.add("small", "h", "s0")
        self.assertEqual(self.take(queue, 3), ["s0", "b1", "b2"])

    def test_per_host(self) -> None:
        """A host's limit counts over all owners; other hosts go on."""
        queue = self.queue(99, 2, "slow fast")
        for owner in ("a", "b"):
            for n in range(2):
                queue.add(owner, "slow", f"{owner}{n}")
        queue.add("a", "fast", "f")
        self.assertEqual(self.take(queue, 4), ["b0", "a0", "f", None])
        queue.release("a", "slow", True, False)
        self.assertIn(self.take(queue, 1)[0], ("a1", "b1"))

    def test_room_for_one_more(self) -> None:
        """Whoever is alone leaves a quarter free, so that a stalled batch stalls nobody else."""
        hosts = [f"h{n}" for n in range(40)]
        queue = self.queue(32, 99, " ".join([*hosts, "h"]))
        for host in hosts:
            queue.add("stalled", host, "s")
        self.assertEqual(self.take(queue, 30).count("s"), 24)
        queue.add("other", "h", "o")
        self.assertEqual(self.take(queue, 2), ["o", None])

    def test_first(self) -> None:
        """What was tried before does not queue up again behind all others."""
        queue = self.queue(99, 9, "h")
        for item in "ab":
            queue.add("o", "h", item)
        queue.add("o", "h", "again", first=True)
        self.assertEqual(self.take(queue, 3), ["again", "a", "b"])

    def test_drop(self) -> None:
        """What is taken away is not given out."""
        queue = self.queue(99, 9, "h g")
        queue.add("a", "h", 1)
        queue.add("b", "h", 2)
        queue.add("c", "h", 3)
        queue.add("c", "g", 4)
        self.assertEqual(queue.drop("a"), [1])
        self.assertEqual(queue.drop_host("h", lambda owner: owner == "c"), [3])
        self.assertEqual(self.take(queue, 3), [4, 2, None])
        self.assertEqual(queue.demand()[ALL], (2, 0))

    def test_new_host(self) -> None:
        """One asks, until it has answered; new hosts have a share of the places."""
        queue = self.queue(32, 8)
        for n in range(10):
            queue.add("a", "h", n)
        self.assertEqual(self.take(queue, 2), [0, None])
        self.assertTrue(queue.note("h", Speed.FAST))
        queue.release("a", "h", True, True)
        self.assertEqual(self.take(queue, 9), [*range(1, 9), None])
        for n in range(20):
            queue.add("b", f"new{n}", n)
        self.assertEqual(len([n for n in self.take(queue, 20) if n is not None]), 32 // NEW_DIVISOR)

    def test_waiting_for_a_host_holds_no_place(self) -> None:
        """However many wait for hosts that do not answer, others have all places."""
        queue = self.queue(8, 8, "good")
        for n in range(100):
            queue.add(n, f"dead{n}", n)
        began = set()
        while (taken := queue.take()) is not None:
            began.add(taken.item)
            queue.cede(taken.item, True)
        self.assertEqual(len(began), 100)
        for _ in range(20):
            queue.add("good", "good", "g")
        self.assertEqual(self.take(queue, 9).count("g"), 6)  # and there is room for one more

    def test_slow_host(self) -> None:
        """Its items have no place; together they are bounded, and others' come all the same."""
        queue = self.queue(2, 8, "good")
        for n in range(40):
            queue.note(f"slow{n}", Speed.SLOW)
            for _ in range(8):
                queue.add(f"o{n}", f"slow{n}", "s")
        taken = [queue.take() for _ in range(400)]
        out = [one for one in taken if one is not None]
        self.assertEqual((len(out), {one.placed for one in out}), (2 * MAX_PLACELESS, {False}))
        queue.add("good", "good", "g")
        found = queue.take()
        assert found is not None
        self.assertEqual((found.item, found.placed), ("g", True))

    def test_slow_hosts_share(self) -> None:
        """Once half of what slow hosts may have is taken, each of them gets a little."""
        queue = self.queue(1, 8)
        for host in "abcdef":
            queue.note(host, Speed.SLOW)
            for _ in range(8):
                queue.add(host, host, host)
        taken = [one for one in self.take(queue, 48) if one is not None]
        self.assertEqual({taken.count(host) for host in "abcdef"}, {MAX_PLACELESS_OF_HOST})

    def test_gets_on(self) -> None:
        """An owner gets on while something of it has a place, or could begin."""
        queue = self.queue(8, 1, "h")
        queue.add("a", "h", 1)
        queue.add("b", "h", 2)
        self.assertEqual(self.take(queue, 2), [2, None])
        self.assertEqual((queue.gets_on("a"), queue.gets_on("b")), (False, True))
        queue.cede("b", False)
        self.assertFalse(queue.gets_on("b"))
        queue.resume("b")
        self.assertTrue(queue.gets_on("b"))
        queue.release("b", "h", True, False)
        self.assertEqual((queue.gets_on("a"), queue.gets_on("b")), (True, False))

    def test_many_hosts(self) -> None:
        """Hosts that give nothing do not keep the others of an owner from their turn, and an owner
        of whose many hosts none gives anything does not get on."""
        allowed = {"good": 1}
        queue: FetchQueue[int] = FetchQueue(
            lambda name, owner: 9 if name == ALL else allowed.get(name, 0)
        )
        for n in range(1000):
            queue.add("a", f"h{n}", n)
        queue.add("a", "good", 1000)
        taken = [one for one in (queue.take() for _ in range(8)) if one is not None]
        self.assertEqual([one.item for one in taken], [1000])
        queue.release("a", "good", True, True)
        self.assertIsNone(queue.take())
        for _ in range(8):
            queue.take()
        self.assertFalse(queue.gets_on("a"))
        allowed["h500"] = 1
        queue.look_again()
        self.assertIn(500, self.take(queue, 8))

    def test_look_again(self) -> None:
        """A limit that was raised is seen."""
        most = 0
        queue: FetchQueue[int] = FetchQueue(lambda name, owner: 9 if name == ALL else most)
        queue.add("a", "h", 1)
        self.assertIsNone(queue.take())
        most = 1
        self.assertIsNone(queue.take())
        queue.look_again()
        self.assertEqual(self.take(queue, 1), [1])

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), max_size=60),
        st.integers(1, 4),
        st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(Speed)), max_size=20),
        st.lists(st.integers(0, 2), max_size=100),
    )
    def test_all_once(
        self,
        items: list[tuple[int, str]],
        per_host: int,
        notes: list[tuple[str, Speed]],
        acts: list[int],
    ) -> None:
        """Everything comes out once, never more than the limit of a host at a time."""
        queue = self.queue(99, per_host)
        for number, (owner, host) in enumerate(items):
            queue.add(owner, host, (number, owner, host))
        out: list[tuple[tuple[int, int, str], bool, bool]] = []
        seen: list[int] = []
        while True:
            if notes:
                queue.note(*notes.pop())
            taken = queue.take()
            if taken is not None:
                new = taken.placed and queue.speed(taken.item[2]) is Speed.NEW
                out.append((taken.item, taken.placed, new))
                seen.append(taken.item[0])
                self.assertLessEqual(sum(one[0][2] == taken.item[2] for one in out), per_host)
            elif not out:
                break
            act = acts.pop() if acts else 0
            if act and out and out[0][1]:
                queue.cede(out[0][0][1], out[0][2])
                out[0] = (out[0][0], False, False)
                if act == 2:
                    queue.resume(out[0][0][1])
                    out[0] = (out[0][0], True, False)
            if taken is None:
                (_, owner, host), placed, new = out.pop(0)
                queue.release(owner, host, placed, new)
        self.assertEqual(sorted(seen), list(range(len(items))))
        self.assertEqual(queue.demand(), {ALL: (0, 0)})
        self.assertFalse(queue)
