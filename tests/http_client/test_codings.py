"""Content codings, however the bytes come."""

import gzip
import zlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.errors import MemberError
from twisted_bulk.http_client import codings
from twisted_bulk.http_client.codings import PIECE_BYTES, Decoder, codings_of, to_decode

ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data),
    "deflate": lambda data: zlib.compress(data),
}


class DecoderTests(SynchronousTestCase):
    """Pure."""

    @given(
        st.binary(max_size=2000),
        st.lists(st.sampled_from(sorted(ENCODE)), min_size=1, max_size=3),
        st.lists(st.integers(1, 50), min_size=1),
    )
    def test_any_pieces(self, data: bytes, names: list[str], sizes: list[int]) -> None:
        """What was encoded comes back, in whatever pieces it is given; not if a byte is missing."""
        packed = data
        for name in names:
            packed = ENCODE[name](packed)
        for end, whole in ((len(packed), True), (len(packed) - 1, False)):
            decoder, found, at, turn = Decoder(names), b"", 0, 0
            while at < end:
                size = min(sizes[turn % len(sizes)], end - at)
                found += b"".join(decoder.pieces(packed[at : at + size]))
                at, turn = at + size, turn + 1
            if whole:
                found += b"".join(decoder.pieces(b"", last=True))
                self.assertEqual(found, data)
            else:
                self.assertRaises(MemberError, list, decoder.pieces(b"", last=True))

    @given(st.binary(max_size=500))
    def test_anything(self, data: bytes) -> None:
        """Bytes of any kind are decoded, passed on, or refused."""
        for name in ENCODE:
            decoder = Decoder([name])
            try:
                found = b"".join(decoder.pieces(data, last=True))
            except MemberError as error:
                self.assertIn(error.code, ("content_encoded", "body_short"))
            else:
                is_gzip = data[:2] == b"\x1f\x8b"
                self.assertTrue(name != "gzip" or is_gzip or found == data, data)

    def test_pieces(self) -> None:
        """Few bytes that become many are decoded as they are taken."""
        packed = gzip.compress(bytes(50 << 20))
        pieces = Decoder(["gzip"]).pieces(packed)
        self.assertEqual(max(len(next(pieces)) for _ in range(9)), PIECE_BYTES)

    def test_bombs(self) -> None:
        """What grows too much is given up, once it is large."""
        self.patch(codings, "FREE_BYTES", 1 << 20)
        small, large = bytes(1 << 20), bytes(3 << 20)
        self.assertEqual(b"".join(Decoder(["gzip"]).pieces(gzip.compress(small))), small)
        for names, packed in (
            (["gzip"], gzip.compress(large)),
            (["gzip", "gzip"], gzip.compress(gzip.compress(large))),
            (["deflate", "gzip"], gzip.compress(zlib.compress(large))),
        ):
            with self.assertRaises(MemberError) as caught:
                for _ in Decoder(names).pieces(packed):
                    pass
            self.assertEqual(caught.exception.code, "content_encoded")

    def test_many(self) -> None:
        """Very many gzips one behind the other are given up, also within another one."""
        empty = gzip.compress(b"") * (codings.MAX_MEMBERS + 1)
        for names, packed in ((["gzip"], empty), (["gzip", "gzip"], gzip.compress(empty))):
            with self.assertRaises(MemberError) as caught:
                list(Decoder(names).pieces(packed))
            self.assertEqual(caught.exception.code, "content_encoded")

    def test_turns(self) -> None:
        """Between pieces without a byte its user can do something else."""
        pieces = list(Decoder(["gzip"]).pieces(gzip.compress(b"") * 1000))
        self.assertEqual((set(pieces), len(pieces) >= 1000), ({b""}, True))

    def test_nothing(self) -> None:
        """An empty body is whole."""
        for name in ENCODE:
            self.assertEqual(b"".join(Decoder([name]).pieces(b"", last=True)), b"")

    def test_slowly(self) -> None:
        """Raw deflate that is none is known as such, in whatever pieces it comes."""
        text = b"\xee" * 40
        for size in (1, 2, 3, 17, 39):
            decoder = Decoder(["deflate"])
            found = b"".join(
                piece
                for at in range(0, len(text), size)
                for piece in decoder.pieces(text[at : at + size], at + size >= len(text))
            )
            self.assertEqual(found, text)

    def test_waste(self) -> None:
        """Bytes behind a whole gzip are dropped."""
        decoder = Decoder(["gzip"])
        found = b"".join(decoder.pieces(gzip.compress(b"abc") + b"waste"))
        found += b"".join(decoder.pieces(b"more", last=True))
        self.assertEqual(found, b"abc")

    def test_own_packing(self) -> None:
        """It is no coding: the list loses it."""
        for path, media in (("/a.GZ", ""), ("/a", "application/x-gzip")):
            names = codings_of(["GZip"])
            self.assertEqual((to_decode(names, path, media), names), ((), []))
