"""JSON that two readers would read differently, or that is none."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.errors import InvalidRequest
from twisted_bulk.orders.order import read_order


class JsonKeyTests(SynchronousTestCase):
    """JSON that two readers would read differently, or that is none."""

    bad = (
        ('{"download":["http://a/"],"download":["http://b/"]}', "'download' stands twice"),
        ('{"download":["http://a/"],"priority":1,"priority":1}', "'priority' stands twice"),
        ('{"task_id":"download","download":["http://a/"],"task_id":1}', "'task_id' stands twice"),
        ('{"download":["http://a/"],"headers":{"A":"1","A":"2"}}', "'A' stands twice"),
        ('{"download":["http://a/",{"url":"http://b/","url":"http://c/"}]}', "'url' stands twice"),
        ('{"downl\\u006fad":["http://a/"],"download":["http://a/"]}', "'download' stands twice"),
        ('{"headers":{"download":"x","download":"y"},"download":["http://a/"]}', "stands twice"),
        ('{"download":["http://a/"],"priority":NaN}', "not JSON"),
        ('{"download":["http://a/"],"expires":Infinity}', "not JSON"),
        ('{"download":["http://a/\\ud800"]}', "not JSON"),
        ('{"download":' + "[" * 100_000 + "]" * 100_000 + "}", "download"),
        ('{"headers":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"download":["http://a/', "not JSON"),
        ('{"download":["http://a/" "http://b/"]}', "$.download[0]"),
        ('{"download":["http://a/",]}', "a comma before the end"),
        ('{"download":[{"url":"http://a/","headers":{"a":{"b":"c"}}}]}', "$.download[0]"),
        ('{"download":["http://a/"],"headers":{"a":"' + "b" * 600_000 + '"}}', "more than"),
        ('{"download":["http://a/' + "b" * 600_000 + '"]}', "$.download[0]"),
        ('{"download":' + "[" * 900 + "]" * 900 + "}", "download"),
        ('{"download":["http://a/"],"priority":' + "9" * 5000 + "}", "priority"),
        ('{"download":["http://a/"],"expires":1e999}', "expires"),
        ('{"download":["http://a/"],"prioritty":1}', "prioritty"),
        ("", "not JSON"),
        ("null", "object"),
        (
            '{"headers":{"download":"v","A":"1","A":"2"},"download":["http://a/xxxxxx"]}',
            "'A' stands",
        ),
        ('{"download":["http://a/"],"task_id":".."}', "task_id"),
        ('{"downl\\u006fad":["http://a/\udcff"]}', "UTF-8"),
        ('{"downl\\u006fad":[' + "9" * 5000 + "]}", "download"),
    )

    def test_refused(self) -> None:
        """Each with what is wrong."""
        for text, said in self.bad:
            body = text.encode("utf-8", "surrogateescape")
            error = self.assertRaises(InvalidRequest, read_order, body, 1000)
            self.assertIn(said, str(error), text[:80])

    def test_taken(self) -> None:
        """What only looks like it is not refused."""
        for text in (
            '{"task_id":"download","download":["http://a/"]}',
            '{"downl\\u006fad":["http://a/"],"task_id":"download"}',
            '{"headers":{"download":"x"},"download" : [ "http://a/" ]}',
            '{"headers":{"A":"1","B":"1"},"download":[{"url":"http://a/","headers":{"A":"1"}}]}',
        ):
            self.assertEqual(len(read_order(text.encode(), 1000)), 1)
