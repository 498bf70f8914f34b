"""Who is fetched next."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.downloads.fetch_queue import ALL, CROWDED, NEW_SHARE, WAITING, FetchQueue, Speed


class LanesTests(SynchronousTestCase):
    """Owners with hosts of all kinds."""

    def lanes(self, places: int, per_host: int, fast: str = "") -> FetchQueue[Any]:
        """With hosts that are known to be fast."""
        lanes: FetchQueue[Any] = FetchQueue(lambda name, owner: places if name == ALL else per_host)
        for host in fast.split():
            lanes.note(host, Speed.FAST)
        return lanes

    def take(self, lanes: FetchQueue[Any], count: int) -> list[Any]:
        """What comes, and None where nothing does."""
        taken = [lanes.take() for _ in range(count)]
        return [one and one.item for one in taken]

    def test_owners_take_turns(self) -> None:
        """A big batch does not hold up a small one, which has the first turn."""
        lanes = self.lanes(99, 99, "h")
        for n in range(5):
            lanes.add("big", "h", f"b{n}")
        self.assertEqual(self.take(lanes, 1), ["b0"])
        lanes.add("small", "h", "s0")
        self.assertEqual(self.take(lanes, 3), ["s0", "b1", "b2"])

    def test_per_host(self) -> None:
        """A host's limit counts over all owners; other hosts go on."""
        lanes = self.lanes(99, 2, "slow fast")
        for owner in ("a", "b"):
            for n in range(2):
                lanes.add(owner, "slow", f"{owner}{n}")
        lanes.add("a", "fast", "f")
        self.assertEqual(self.take(lanes, 4), ["b0", "a0", "f", None])
        lanes.release("a", "slow", True, False)
        self.assertIn(self.take(lanes, 1)[0], ("a1", "b1"))

    def test_room_for_one_more(self) -> None:
        """Whoever is alone leaves a quarter free, so that a stalled batch stalls nobody else."""
        hosts = [f"h{n}" for n in range(40)]
        lanes = self.lanes(32, 99, " ".join([*hosts, "h"]))
        for host in hosts:
            lanes.add("stalled", host, "s")
        self.assertEqual(self.take(lanes, 30).count("s"), 24)
        lanes.add("other", "h", "o")
        self.assertEqual(self.take(lanes, 2), ["o", None])

    def test_first(self) -> None:
        """What was tried before does not queue up again behind all others."""
        lanes = self.lanes(99, 9, "h")
        for item in "ab":
            lanes.add("o", "h", item)
        lanes.add("o", "h", "again", first=True)
        self.assertEqual(self.take(lanes, 3), ["again", "a", "b"])

    def test_drop(self) -> None:
        """What is taken away is not given out."""
        lanes = self.lanes(99, 9, "h g")
        lanes.add("a", "h", 1)
        lanes.add("b", "h", 2)
        lanes.add("c", "h", 3)
        lanes.add("c", "g", 4)
        self.assertEqual(lanes.drop("a"), [1])
        self.assertEqual(lanes.drop_host("h", lambda owner: owner == "c"), [3])
        self.assertEqual(self.take(lanes, 3), [4, 2, None])
        self.assertEqual(lanes.demand()[ALL], (2, 0))

    def test_new_host(self) -> None:
        """One asks, until it has answered; new hosts have a share of the places."""
        lanes = self.lanes(32, 8)
        for n in range(10):
            lanes.add("a", "h", n)
        self.assertEqual(self.take(lanes, 2), [0, None])
        self.assertTrue(lanes.note("h", Speed.FAST))
        lanes.release("a", "h", True, True)
        self.assertEqual(self.take(lanes, 9), [*range(1, 9), None])
        for n in range(20):
            lanes.add("b", f"new{n}", n)
        self.assertEqual(len([n for n in self.take(lanes, 20) if n is not None]), 32 // NEW_SHARE)

    def test_waiting_for_a_host_holds_no_place(self) -> None:
        """However many wait for hosts that do not answer, others have all places."""
        lanes = self.lanes(8, 8, "good")
        for n in range(100):
            lanes.add(n, f"dead{n}", n)
        began = set()
        while (taken := lanes.take()) is not None:
            began.add(taken.item)
            lanes.cede(taken.item, True)
        self.assertEqual(len(began), 100)
        for _ in range(20):
            lanes.add("good", "good", "g")
        self.assertEqual(self.take(lanes, 9).count("g"), 6)  # and there is room for one more

    def test_slow_host(self) -> None:
        """Its items have no place; together they are bounded, and others' come all the same."""
        lanes = self.lanes(2, 8, "good")
        for n in range(40):
            lanes.note(f"slow{n}", Speed.SLOW)
            for _ in range(8):
                lanes.add(f"o{n}", f"slow{n}", "s")
        taken = [lanes.take() for _ in range(400)]
        out = [one for one in taken if one is not None]
        self.assertEqual((len(out), {one.placed for one in out}), (2 * WAITING, {False}))
        lanes.add("good", "good", "g")
        found = lanes.take()
        assert found is not None
        self.assertEqual((found.item, found.placed), ("g", True))

    def test_slow_hosts_share(self) -> None:
        """Once half of what slow hosts may have is taken, each of them gets a little."""
        lanes = self.lanes(1, 8)
        for host in "abcdef":
            lanes.note(host, Speed.SLOW)
            for _ in range(8):
                lanes.add(host, host, host)
        taken = [one for one in self.take(lanes, 48) if one is not None]
        self.assertEqual({taken.count(host) for host in "abcdef"}, {CROWDED})

    def test_gets_on(self) -> None:
        """An owner gets on while something of it has a place, or could begin."""
        lanes = self.lanes(8, 1, "h")
        lanes.add("a", "h", 1)
        lanes.add("b", "h", 2)
        self.assertEqual(self.take(lanes, 2), [2, None])
        self.assertEqual((lanes.gets_on("a"), lanes.gets_on("b")), (False, True))
        lanes.cede("b", False)
        self.assertFalse(lanes.gets_on("b"))
        lanes.resume("b")
        self.assertTrue(lanes.gets_on("b"))
        lanes.release("b", "h", True, False)
        self.assertEqual((lanes.gets_on("a"), lanes.gets_on("b")), (True, False))

    def test_many_hosts(self) -> None:
        """Hosts that give nothing do not keep the others of an owner from their turn, and an owner
        of whose many hosts none gives anything does not get on."""
        allowed = {"good": 1}
        lanes: FetchQueue[int] = FetchQueue(
            lambda name, owner: 9 if name == ALL else allowed.get(name, 0)
        )
        for n in range(1000):
            lanes.add("a", f"h{n}", n)
        lanes.add("a", "good", 1000)
        taken = [one for one in (lanes.take() for _ in range(8)) if one is not None]
        self.assertEqual([one.item for one in taken], [1000])
        lanes.release("a", "good", True, True)
        self.assertIsNone(lanes.take())
        for _ in range(8):
            lanes.take()
        self.assertFalse(lanes.gets_on("a"))
        allowed["h500"] = 1
        lanes.look_again()
        self.assertIn(500, self.take(lanes, 8))

    def test_look_again(self) -> None:
        """A limit that was raised is seen."""
        most = 0
        lanes: FetchQueue[int] = FetchQueue(lambda name, owner: 9 if name == ALL else most)
        lanes.add("a", "h", 1)
        self.assertIsNone(lanes.take())
        most = 1
        self.assertIsNone(lanes.take())
        lanes.look_again()
        self.assertEqual(self.take(lanes, 1), [1])

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
        lanes = self.lanes(99, per_host)
        for number, (owner, host) in enumerate(items):
            lanes.add(owner, host, (number, owner, host))
        out: list[tuple[tuple[int, int, str], bool, bool]] = []
        seen: list[int] = []
        while True:
            if notes:
                lanes.note(*notes.pop())
            taken = lanes.take()
            if taken is not None:
                new = taken.placed and lanes.speed(taken.item[2]) is Speed.NEW
                out.append((taken.item, taken.placed, new))
                seen.append(taken.item[0])
                self.assertLessEqual(sum(one[0][2] == taken.item[2] for one in out), per_host)
            elif not out:
                break
            act = acts.pop() if acts else 0
            if act and out and out[0][1]:
                lanes.cede(out[0][0][1], out[0][2])
                out[0] = (out[0][0], False, False)
                if act == 2:
                    lanes.resume(out[0][0][1])
                    out[0] = (out[0][0], True, False)
            if taken is None:
                (_, owner, host), placed, new = out.pop(0)
                lanes.release(owner, host, placed, new)
        self.assertEqual(sorted(seen), list(range(len(items))))
        self.assertEqual(lanes.demand(), {ALL: (0, 0)})
        self.assertFalse(lanes)
