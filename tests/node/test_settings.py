"""Settings from four places, and what is said of mistakes."""

import os
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, command, environment
from twisted_bulk.errors import ConfigError
from twisted_bulk.node.options import Options
from twisted_bulk.node.settings import KEYS
from twisted_bulk.node.sources import load
from twisted_bulk.system.units import duration, size


class LoadTests(SynchronousTestCase):
    """Merging and reading."""

    def file(self, text: str) -> str:
        path: str = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_precedence(self) -> None:
        """The command line beats the environment, that the file, that the default."""
        path = self.file("[bulkwav]\nretries = 1\nconcurrency = 1\nper_host = 1\n")
        environ = {"BULKWAV_CONCURRENCY": "2", "BULKWAV_PER_HOST": "2", "HOME": "/"}
        environ |= {"BULKWAV_SERVER": "h", "BULKWAV_TOKEN": "t"}  # what `bulkwav` reads is no key
        settings = load({"per_host": "3"}, environ, path)
        self.assertEqual((settings.retries, settings.concurrency, settings.per_host), (1, 2, 3))
        self.assertEqual(settings.rate, 200_000)

    def test_config_named_by_the_environment(self) -> None:
        """BULKWAV_CONFIG is the file where the command line names none."""
        path = self.file("[bulkwav]\nretries = 7\n")
        self.assertEqual(load({}, {"BULKWAV_CONFIG": path}).retries, 7)

    def test_mistakes(self) -> None:
        """Each names the key, where it was given and what was expected."""
        unknown = self.file("[bulkwav]\nconcurency = 3\n")
        section = self.file("[bulkwave]\nretries = 3\n")
        cases = [
            ({"rate": "fast"}, {}, None, r"rate .*--rate.*'fast' is not a number of bytes"),
            ({}, {"BULKWAV_KEEP": "long"}, None, r"keep .*BULKWAV_KEEP.*'long' is not a time"),
            ({}, {"BULKWAV_KEPT": "1d"}, None, r"kept .*BULKWAV_KEPT.*unknown key"),
            ({}, {}, unknown, rf"concurency in {unknown}: unknown key"),
            ({}, {}, section, r"\[bulkwave\] in .* unknown section, expected \[bulkwav\]"),
            ({}, {}, "/nowhere/x", r"config: cannot read /nowhere/x"),
            ({"concurrency": "0"}, {}, None, r"whole number from 1"),
            ({"roles": "worker,cook"}, {}, None, r"choice of intake, worker, files"),
            ({"allow_net": "10.0.0.1/8"}, {}, None, r"networks such as"),
            ({"redis": "http://x"}, {}, None, r"redis://\[user:password@\]host"),
            ({"redis": "redis://h:99999"}, {}, None, r"redis://\[user:password@\]host"),
            ({"redis": "redis://h/x"}, {}, None, r"redis://\[user:password@\]host"),
            ({"redis": "unix:///s?db=x"}, {}, None, r"unix:///path\[\?db=n\]"),
            ({"intake": "10000"}, {}, None, r"a Twisted endpoint such as"),
            ({"public_url": "example.com"}, {}, None, r"an http or https URL"),
            ({"compress": "zstd"}, {}, None, r"one of auto, store, deflate"),
            ({"open": "perhaps"}, {}, None, r"yes or no"),
            ({"notify_every": "0"}, {}, None, r"longer than 0"),
        ]
        for options, environ, path, said in cases:
            error = self.assertRaises(ConfigError, load, options, environ, path)
            self.assertRegex(str(error), said)
            self.assertNotIn("\n", str(error))

    def test_no_password_is_repeated(self) -> None:
        """A mistake in what has one is told without it."""
        path = self.mktemp()
        Path(path).write_text("[bulkwav]\nredis redis://:s3cr3t@h\n")
        cases: list[tuple[dict[str, str], str | None]] = [
            ({"redis": value}, None)
            for value in (
                "redis//:s3cr3t@h", "redis://:s3/cr3t@h/1", "redis://:s3cr3t@h:x", "s3cr3t",
                "sentinel://:s3cr3t@h", "redis://h?password=s3cr3t", "unix://s3cr3t@h/x",
            )
        ]  # fmt: skip
        cases += [({"proxy": "http//u:s3cr3t@h"}, None), ({"broker": "sql://:s3cr3t@h"}, None)]
        cases += [({"public_url": "ftp://u:s3cr3t@h"}, None), ({}, path)]
        for options, config in cases:
            error = self.assertRaises(ConfigError, load, options, {}, config)
            said = str(error).replace(path, "")  # a folder of trial's has random letters
            self.assertNotRegex(said, "s3|cr3t", str(options))

    def test_units(self) -> None:
        """k is 1000, Ki 1024; times take a letter."""
        self.assertEqual(
            [size(t) for t in ("200k", "1.5Ki", "4G", "7")], [200_000, 1536, 4 * 10**9, 7]
        )
        self.assertEqual([duration(t) for t in ("90", "1.5h", "7d")], [90, 5400, 604_800])
        for parse in (size, duration):
            self.assertRaises(ValueError, parse, "9" * 400)


class ExampleTests(SynchronousTestCase):
    """``twistd.conf``."""

    def test_every_key_at_its_default(self) -> None:
        """The file shows each key once, commented, at its default, with a line about it."""
        text = (ROOT / "twistd.conf").read_text()
        shown = re.findall(r"^# .+\n#([a-z0-9_]+) =(.*)$", text, re.MULTILINE)
        expected = [(name, key.metadata["default"]) for name, key in KEYS.items()]
        self.assertEqual([(name, value.strip()) for name, value in shown], expected)

    def test_readable(self) -> None:
        """With every comment sign taken away it loads, to the defaults."""
        text = re.sub(
            r"^#([a-z0-9_]+ =)", r"\1", (ROOT / "twistd.conf").read_text(), flags=re.MULTILINE
        )
        path = self.mktemp()
        Path(path).write_text(text)
        parser = ConfigParser()
        parser.read(path)
        self.assertEqual(set(parser["bulkwav"]), set(KEYS))
        self.assertEqual(load({}, {}, path), load({}, {}))


class CommandLineTests(SynchronousTestCase):
    """``twistd bulkwav`` with something wrong, and its help."""

    def run_it(self, *options: str, **environ: str) -> tuple[int, str, str]:
        done = subprocess.run(
            command(*options),
            capture_output=True,
            text=True,
            env=environment() | environ,
            timeout=30,
        )
        return done.returncode, done.stdout, done.stderr

    def test_one_line_and_status_1(self) -> None:
        """A mistake is one line on standard error."""
        for options, said in (
            (["--rate=fast"], "bulkwav: rate on the command line (--rate): 'fast' is not"),
            (["--speed=1"], "bulkwav: option --speed not recognized"),
            (["surplus"], "bulkwav: "),
            (["--data=/proc/nowhere"], "bulkwav: data: cannot use /proc/nowhere"),
            (["--intake=tcp:x"], "bulkwav: intake: not an endpoint"),
            (["--files=ssl:1:privateKey=/nowhere"], "bulkwav: files: not an endpoint"),
            (["--files=ssl:1", "--proxy-protocol"], "bulkwav: proxy_protocol: "),
            (["--tokens=/nowhere"], "bulkwav: tokens: cannot read /nowhere"),
            (["--secret=/dev/null"], "bulkwav: secret: "),
        ):
            status, out, err = self.run_it(f"--data={self.mktemp()}", *options)
            self.assertEqual((status, out), (1, ""), err)
            self.assertTrue(err.startswith(said), err)
            self.assertEqual(err.count("\n"), 1, err)

    def test_environment(self) -> None:
        """A mistake in the environment is named as such."""
        status, _, err = self.run_it(BULKWAV_RETRIES="-1")
        self.assertEqual(status, 1)
        self.assertIn("(BULKWAV_RETRIES)", err)

    def test_help(self) -> None:
        """Every key is in the help, with its default."""
        text = " ".join(str(Options()).split())
        for name, key in KEYS.items():
            self.assertIn("--" + name.replace("_", "-"), text)
            self.assertIn(" ".join(key.metadata["help"].split()), text)

    def test_repeated(self) -> None:
        """Options that may be given more than once."""
        for name in ("allow_net", "exempt_net", "trusted_proxy"):
            option = f"--{name.replace('_', '-')}"
            options = Options()
            options.parseOptions([f"{option}=10.0.0.0/8", option, "fd00::/8", "--open"])
            found = getattr(options.settings, name)
            self.assertEqual([str(net) for net in found], ["10.0.0.0/8", "fd00::/8"])
            self.assertTrue(options.settings.open)
        options = Options()
        options.parseOptions([f"--trust=a={'0' * 64}", f"--trust=b:1={'1' * 64}"])
        self.assertEqual(options.settings.trust, {"a": {"0" * 64}, "b:1": {"1" * 64}})

    def test_statuses(self) -> None:
        """Statuses that are tried again, too."""
        options = Options()
        options.parseOptions(["--retry-on=404, 409,404", "--max-redirects=3"])
        settings = options.settings
        self.assertEqual((settings.retry_on, settings.max_redirects), ((404, 409), 3))


assert "BULKWAV_CONFIG" not in os.environ
