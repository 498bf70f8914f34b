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
                decoder.finish()
                self.assertEqual((found, decoder.is_certain), (data, True))
            else:
                self.assertRaises(MemberError, decoder.finish)

    @given(st.binary(max_size=500))
    def test_anything(self, data: bytes) -> None:
        """Bytes of any kind are decoded, passed on, or refused."""
        for name in ENCODE:
            decoder = Decoder([name])
            try:
                found = b"".join(decoder.pieces(data))
                decoder.finish()
            except MemberError as error:
                self.assertIn(error.code, ("content_encoded", "body_short"))
            else:
                self.assertTrue(decoder.is_certain or found == data)

    def test_pieces(self) -> None:
        """Few bytes that become many are decoded as they are taken."""
        packed = gzip.compress(bytes(50 << 20))
        pieces = Decoder(["gzip"]).pieces(packed)
        self.assertEqual(len(next(pieces)), PIECE_BYTES)

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

    def test_waste(self) -> None:
        """Bytes behind a whole gzip are dropped, and its end is certain all the same."""
        decoder = Decoder(["gzip"])
        found = b"".join(decoder.pieces(gzip.compress(b"abc") + b"waste"))
        found += b"".join(decoder.pieces(b"more"))
        decoder.finish()
        self.assertEqual((found, decoder.is_certain), (b"abc", True))

    def test_own_packing(self) -> None:
        """It is no coding: the list loses it."""
        for path, media in (("/a.GZ", ""), ("/a", "application/x-gzip")):
            names = codings_of(["GZip"])
            self.assertEqual((to_decode(names, path, media), names), ((), []))
