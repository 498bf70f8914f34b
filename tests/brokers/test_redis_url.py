"""URLs of Redis, taken apart."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.brokers.redis_url import Address, parse_redis_url


class RedisUrlTests(SynchronousTestCase):
    """All kinds, and mistakes."""

    def test_kinds(self) -> None:
        """Each with everything it may have."""
        cases = {
            "redis://h": Address(hosts=(("h", 6379),)),
            "redis://u:p%40w@[::1]:7/3": Address(
                hosts=(("::1", 7),), database=3, credentials=("u", "p@w")
            ),
            "rediss://:pw@h/?ca=/x.pem": Address(
                hosts=(("h", 6379),), credentials=("pw",), tls=True, ca="/x.pem"
            ),
            "unix:///a%20b?db=2": Address(path="/a b", database=2),
            "unix://:pw@/s": Address(path="/s", credentials=("pw",)),
            "sentinel://a,b:7/main": Address(
                hosts=(("a", 26379), ("b", 7)), master="main", replicas=1
            ),
            "sentinel://:pw@a/main/4?sentinel_password=x&tls=yes&replicas=0": Address(
                hosts=(("a", 26379),),
                master="main",
                database=4,
                credentials=("pw",),
                sentinel_credentials=("x",),
                tls=True,
            ),
        }
        for url, address in cases.items():
            self.assertEqual(parse_redis_url(url), address, url)

    def test_no_secret_in_logs(self) -> None:
        """What logs name has no password."""
        self.assertEqual(
            parse_redis_url("sentinel://:pw@a,b/main").where, "main by a:26379,b:26379"
        )
        self.assertEqual(parse_redis_url("redis://u:pw@h:7/1").where, "h:7")

    def test_mistakes(self) -> None:
        """None of these is a place."""
        for url in (
            *("http://h", "redis://", "redis://h:0", "redis://h:99999", "redis://h/x", "unix://"),
            *("unix://host/s", "sentinel://a,b", "sentinel://a,/m", "redis://h/1?x=1", "h"),
        ):
            with self.assertRaises(ValueError, msg=url):
                parse_redis_url(url)
