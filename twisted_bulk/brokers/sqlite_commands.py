"""The Redis commands that our scripts use, on an SQLite database.

Only what ``lua/*.lua`` and the queues call is here, with the replies that Redis gives to a
script. A hash is rows of ``h``, a string the row of ``h`` with an empty field, a sorted set rows
of ``z``, a set the same with score 0. Keys, fields and values are bytes, ordered as ``memcmp``
does, which is also how Redis breaks ties.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

Word = bytes | str | int | float
Reply = Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS h (key BLOB, field BLOB, value BLOB, PRIMARY KEY (key, field))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS z (key BLOB, member BLOB, score REAL, PRIMARY KEY (key, member))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS line ON z (key, score, member);
CREATE TABLE IF NOT EXISTS ttl (key BLOB PRIMARY KEY, at REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON ttl (at);
"""

OK = b"OK"


def plain(word: Word) -> bytes:
    """A word as Redis would store it; a number as C's ``%.17g`` writes it."""
    if isinstance(word, bytes):
        return word
    if isinstance(word, str):
        return word.encode()
    return b"%d" % word if word == int(word) else b"%.17g" % word


def _bound(word: bytes) -> tuple[str, float]:
    """A range's end as a comparison's ending and a number."""
    if word.startswith(b"("):
        return "", float(word[1:])
    return "=", float(word)


class Commands:
    """One database's commands; the caller begins and ends transactions.

    :param now: the time in seconds since 1970
    :param publish: called with the channel of each PUBLISH
    """

    def __init__(
        self, db: sqlite3.Connection, now: Callable[[], float], publish: Callable[[bytes], None]
    ) -> None:
        self._db = db
        self._now = now
        self._told = publish

    def __call__(self, name: bytes, *words: Word) -> Reply:
        return getattr(self, "_" + name.decode().lower())(*map(plain, words))

    def purge(self) -> None:
        """Remove what has outlived its time; to be called at a transaction's begin."""
        if self._one("SELECT 1 FROM ttl WHERE at <= ? LIMIT 1", self._now()):
            gone = self._db.execute("DELETE FROM ttl WHERE at <= ? RETURNING key", (self._now(),))
            self._del(*(row[0] for row in gone.fetchall()))

    def _one(self, sql: str, *values: Any) -> Any:
        row = self._db.execute(sql, values).fetchone()
        return row and row[0]

    def _column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in self._db.execute(sql, values)]

    def _changed(self, sql: str, *values: Any) -> int:
        return self._db.execute(sql, values).rowcount

    # Keys

    def _time(self) -> Reply:
        now = self._now()
        return [b"%d" % now, b"%d" % (now % 1 * 1_000_000)]

    def _ping(self) -> Reply:
        return b"PONG"

    def _exists(self, key: bytes) -> Reply:
        found = self._one("SELECT 1 FROM h WHERE key = ? LIMIT 1", key)
        return found or self._one("SELECT 1 FROM z WHERE key = ? LIMIT 1", key) or 0

    def _del(self, *keys: bytes) -> Reply:
        changed = 0
        for key in keys:
            rows = self._changed("DELETE FROM h WHERE key = ?", key)
            rows += self._changed("DELETE FROM z WHERE key = ?", key)
            self._persist(key)
            changed += rows > 0
        return changed

    _unlink = _del

    def _pexpire(self, key: bytes, milliseconds: bytes) -> Reply:
        if not self._exists(key):
            return 0
        until = self._now() + int(milliseconds) / 1000
        return self._changed("INSERT OR REPLACE INTO ttl VALUES (?, ?)", key, until)

    def _expire(self, key: bytes, seconds: bytes) -> Reply:
        return self._pexpire(key, seconds + b"000")

    def _persist(self, key: bytes) -> Reply:
        return self._changed("DELETE FROM ttl WHERE key = ?", key)

    def _publish(self, channel: bytes, message: bytes) -> Reply:
        self._told(channel)
        return 0

    # Strings

    def _get(self, key: bytes) -> Reply:
        return self._hget(key, b"")

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        self._persist(key)
        self._hset(key, b"", value)
        for word, time in zip(options[::2], options[1::2], strict=True):
            {b"PX": self._pexpire, b"EX": self._expire}[word](key, time)
        return OK

    # Hashes

    def _hget(self, key: bytes, field: bytes) -> Reply:
        return self._one("SELECT value FROM h WHERE key = ? AND field = ?", key, field)

    def _hmget(self, key: bytes, *fields: bytes) -> Reply:
        rows = dict(self._db.execute("SELECT field, value FROM h WHERE key = ?", (key,)))
        return [rows.get(field) for field in fields]

    def _hgetall(self, key: bytes) -> Reply:
        rows = self._db.execute("SELECT field, value FROM h WHERE key = ?", (key,))
        return [word for row in rows for word in row]

    def _hset(self, key: bytes, *words: bytes) -> Reply:
        pairs = [(key, *pair) for pair in zip(words[::2], words[1::2], strict=True)]
        self._db.executemany("INSERT OR REPLACE INTO h VALUES (?, ?, ?)", pairs)
        return len(pairs)

    def _hdel(self, key: bytes, *fields: bytes) -> Reply:
        sql = "DELETE FROM h WHERE key = ? AND field = ?"
        return sum(self._changed(sql, key, field) for field in fields)

    def _hincrby(self, key: bytes, field: bytes, change: bytes) -> Reply:
        number = int(self._hget(key, field) or 0) + int(change)
        self._hset(key, field, b"%d" % number)
        return number

    # Sorted sets

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> Reply:
        return self._changed("INSERT OR REPLACE INTO z VALUES (?, ?, ?)", key, member, float(score))

    def _zrem(self, key: bytes, member: bytes) -> Reply:
        return self._changed("DELETE FROM z WHERE key = ? AND member = ?", key, member)

    def _zcard(self, key: bytes) -> Reply:
        return self._one("SELECT count(*) FROM z WHERE key = ?", key)

    def _zcount(self, key: bytes, low: bytes, high: bytes) -> Reply:
        return len(self._between(key, low, high, "ASC"))

    def _zscore(self, key: bytes, member: bytes) -> Reply:
        score = self._one("SELECT score FROM z WHERE key = ? AND member = ?", key, member)
        return None if score is None else plain(score)

    def _zrank(self, key: bytes, member: bytes) -> Reply:
        score = self._one("SELECT score FROM z WHERE key = ? AND member = ?", key, member)
        if score is None:
            return None
        before = "SELECT count(*) FROM z WHERE key = ? AND (score, member) < (?, ?)"
        return self._one(before, key, score, member)

    def _scored(self, rows: Iterable[tuple[bytes, float]], options: tuple[bytes, ...]) -> Reply:
        if b"WITHSCORES" in options:
            return [word for member, score in rows for word in (member, plain(score))]
        return [member for member, _ in rows]

    def _zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
        count = -1 if int(last) < 0 else int(last) - int(first) + 1
        sql = "SELECT member, score FROM z WHERE key = ? ORDER BY score, member LIMIT ? OFFSET ?"
        return self._scored(self._db.execute(sql, (key, count, int(first))), options)

    def _between(self, key: bytes, low: bytes, high: bytes, order: str, *options: bytes) -> Reply:
        (above, least), (below, most) = _bound(low), _bound(high)
        begin, count = map(int, options[-2:]) if b"LIMIT" in options else (0, -1)
        sql = f"SELECT member, score FROM z WHERE key = ? AND score >{above} ? AND score <{below} ?"
        sql += f" ORDER BY score {order}, member {order} LIMIT ? OFFSET ?"
        return self._scored(self._db.execute(sql, (key, least, most, count, begin)), options)

    def _zrangebyscore(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> Reply:
        return self._between(key, low, high, "ASC", *options)

    def _zrevrangebyscore(self, key: bytes, high: bytes, low: bytes, *options: bytes) -> Reply:
        return self._between(key, low, high, "DESC", *options)

    def _zrangebylex(self, key: bytes, low: bytes, high: bytes) -> Reply:
        """Of members that all have one score; both ends count, as ``[`` says."""
        sql = "SELECT member FROM z WHERE key = ? AND member BETWEEN ? AND ? ORDER BY member"
        return self._column(sql, key, low[1:], high[1:])

    def _zlexcount(self, key: bytes, low: bytes, high: bytes) -> Reply:
        sql = "SELECT count(*) FROM z WHERE key = ? AND member BETWEEN ? AND ?"
        return self._one(sql, key, low[1:], high[1:])

    def _zpopmin(self, key: bytes, count: bytes = b"1") -> Reply:
        taken = self._zrange(key, b"0", b"%d" % (int(count) - 1), b"WITHSCORES")
        for member in taken[::2]:
            self._zrem(key, member)
        return taken

    # Sets

    def _sadd(self, key: bytes, member: bytes) -> Reply:
        return self._zadd(key, b"0", member)

    def _srem(self, key: bytes, member: bytes) -> Reply:
        return self._zrem(key, member)

    def _smembers(self, key: bytes) -> Reply:
        return self._column("SELECT member FROM z WHERE key = ?", key)

    def _scard(self, key: bytes) -> Reply:
        return self._zcard(key)
