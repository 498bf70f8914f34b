"""The subcommands of ``bulkwav``, against a real daemon."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, Daemon, environment
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.redis_servers import free_port, need
from twisted_bulk.api_client.failures import Refused
from twisted_bulk.commands import exits
from twisted_bulk.commands import main as program
from twisted_bulk.commands.command_table import COMMANDS
from twisted_bulk.queue import SyncPublisher

TOKENS = {"boss": "admin", "eye": "read"}
#: With the usual answer to SIGINT, which a shell's background job would ignore.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM += "; from twisted_bulk.commands.main import run; run()"
RUN = [sys.executable, "-c", PROGRAM]


class Ended(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it wrote."""
        return json.loads(self.out)


def run(*words: str) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = program.main(list(words))
    return Ended(status, out.getvalue(), err.getvalue())


class CommandTestCase(DaemonTestCase):
    """A daemon with tokens, and a source."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(program, "PATIENCE", 0.0)
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))
        for name in [name for name in os.environ if name.startswith("BULKWAV_")]:
            self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != name})
        lines = [f"{hashlib.sha256(n.encode()).hexdigest()} {n} {s}\n" for n, s in TOKENS.items()]
        (self.folder / "tokens").write_text("".join(lines))
        for name in (*TOKENS, "nobody"):
            (self.folder / name).write_text(f"{name}\n")
        self.served = self.daemon(
            f"--tokens={self.folder / 'tokens'}", "--part-files=4", "--rate=0", "--retries=0",
            ready="/healthz",
        )  # fmt: skip

    def server(self, token: str = "boss", daemon: Daemon | None = None) -> Sequence[str]:
        """The options that name the server."""
        api = (daemon or self.served).api
        return f"--server={api}", f"--token-file={self.folder / token}"

    def call(self, *words: str, token: str = "boss") -> Ended:
        """Run a command on the server."""
        return run(*words, *self.server(token))

    def good(self, *words: str, status: int = 0) -> Any:
        """The document of a command that ends well."""
        ended = self.call(*words, "--json")
        self.assertEqual(ended.status, status, ended)
        return ended.json

    def file(self, name: str, urls: Sequence[str]) -> str:
        path = self.folder / name
        path.write_text("".join(f"{url}\n" for url in urls))
        return str(path)


class SubcommandTests(CommandTestCase):
    """Each of them."""

    def commands(self, batch: str) -> dict[str, list[str]]:
        """Words for each subcommand that calls a server."""
        urls = self.file("urls.txt", self.urls(2))
        return {
            "submit": ["submit", urls], "watch": ["watch", batch], "list": ["list"],
            "show": ["show", batch], "members": ["members", batch],
            "get": ["get", batch, f"--into={self.folder / 'got'}"], "cancel": ["cancel", batch],
            "retry": ["retry", batch], "delete": ["delete", batch, "--yes"],
            "notify": ["notify", batch], "priority": ["priority", "3", batch],
            "queue": ["queue"], "nodes": ["nodes"], "top": ["top"],
        }  # fmt: skip

    def test_all(self) -> None:
        """With --json each writes one document: what it did, or its error."""
        urls = [*self.urls(6), "http://127.0.0.1:1/x"]
        told = self.good("submit", self.file("a.txt", urls), "--id=a", "--watch", status=3)
        self.assertEqual((told["status"], told["done"]), ("partial", 6))
        commands = self.commands("a")
        needing = {one.name for one in COMMANDS if not one.is_local}
        self.assertEqual(set(commands), needing)
        away = f"--server=http://127.0.0.1:{free_port()}"
        for name, words in commands.items():
            for more, status, code in (
                ([away], 5, "unreachable"),
                (self.server("nobody"), 4, "unauthorized"),
                ([*self.server(), "--jsno"], 2, "usage"),
            ):
                ended = run(*words, *more, "--json")
                self.assertEqual(ended.status, status, (name, ended))
                error = ended.json["error"]
                self.assertEqual((error["exit"], error["code"]), (status, code))
                self.assertEqual(ended.err.count("\n"), 1, ended.err)
                self.assertTrue(error["hint"], name)
            self.assertIn("did you mean --json?", ended.err)
        for name in ("show", "get", "cancel", "members", "watch", "delete"):
            words = ["none" if word == "a" else word for word in commands[name]]
            ended = self.call(*words, "--json")
            self.assertEqual((ended.status, ended.json["error"]["code"]), (6, "no_such_batch"))
        refused = self.call("queue", "pause", "--json", token="eye")
        self.assertEqual((refused.status, refused.json["error"]["code"]), (4, "forbidden"))

        self.assertEqual(self.good(*commands["watch"], status=3)["status"], "partial")
        self.assertEqual([b["task_id"] for b in self.good("list")["batches"]], ["a"])
        self.assertEqual(self.good("list", "--status=done")["batches"], [])
        self.assertEqual(self.good(*commands["show"])["failed"], 1)
        failed = self.good("members", "a", "--status=failed")["members"]
        self.assertEqual([one["url"] for one in failed], [urls[-1]])
        got = self.good(*commands["get"], status=3)
        self.assertEqual([Path(one["path"]).name for one in got["zips"]],
                         ["a.part001.zip", "a.part002.zip"])  # fmt: skip
        for one in got["zips"]:
            content = Path(one["path"]).read_bytes()
            self.assertEqual(hashlib.sha256(content).hexdigest(), one["sha256"])
        self.assertEqual(self.good("retry", "a", "--check")["retried"], 1)
        self.assertEqual(self.good("retry", "a", "--watch", status=3)["run"], 2)
        checked = self.good("submit", str(self.folder / "a.txt"), "--check", "--probe=9", status=3)
        self.assertEqual((checked["total"], checked["probe"]["sized"]), (7, 6))
        self.assertEqual(self.good("queue", "pause")["settings"], {"paused": True})
        new = self.good(*commands["submit"])["task_id"]
        self.assertEqual(self.good("priority", "3", new)["status"], "queued")
        self.assertEqual([one["task_id"] for one in self.good("top")["batches"]], [new])
        self.assertEqual(self.good("cancel", new)["status"], "cancelled")
        ended = self.call("cancel", new, "--json")
        self.assertEqual((ended.status, ended.json["error"]["code"]), (1, "has_ended"))
        self.assertEqual(self.good("queue", "set", "max_doing=2", "qps=1.5")["settings"],
                         {"paused": True, "max_doing": 2, "qps": 1.5})  # fmt: skip
        self.good("queue", "resume")
        self.assertEqual(self.good("queue", "set", "max_doing=none", "qps=none")["settings"], {})
        workers = self.good("nodes")["workers"]
        self.assertEqual({one["queue"] for one in workers}, {"parts", "callbacks"})
        self.assertEqual(self.good("retry", "--status=cancelled", "--yes")["done"], 1)
        self.good("watch", new)
        ended = self.call("notify", new, "--json")
        self.assertEqual((ended.status, ended.json["error"]["code"]), (1, "not_undelivered"))
        ended = self.call("delete", "--all", "--json")
        self.assertEqual((ended.status, ended.json["error"]["hint"]), (2, "say --yes"))
        self.assertEqual(self.good("delete", "--all", "--yes")["done"], 2)
        self.assertEqual(self.good("list")["batches"], [])

    def test_forms(self) -> None:
        """For people, for pipes, for screen readers, ids only, a document a line."""
        path = self.file("b.txt", self.urls(2))
        told = self.call("submit", path, "--id=b", "--watch")
        self.assertEqual((told.status, told.out), (0, "b\n"))
        self.assertIn("b done, 100 %, 2 of 2 done", told.err)
        self.assertEqual(self.call("submit", path, "--id=b").err,
                         "this batch was handed in before: it is done\n")  # fmt: skip
        self.assertEqual(self.call("list", "-q").out, "b\n")
        row = self.call("list").out.rstrip("\n").split("\t")
        self.assertEqual(row[:6], ["b", "done", "100", "2", "0", "2"])
        self.assertTrue(self.call("list", "--plain").out.startswith("ID b, STATUS done, % 100"))
        self.assertIn("status    done\n", self.call("show", "b").out)
        lines = self.call("members", "b", "--jsonl").out.splitlines()
        self.assertEqual([json.loads(line)["member"] for line in lines], [1, 2])
        lines = self.call("watch", "b", "--jsonl").out.splitlines()
        self.assertEqual(json.loads(lines[-1])["status"], "done")
        self.assertEqual(self.call("submit", path, "--check").out.splitlines()[0], "2 URLs, 1 zip")

    def test_owners(self) -> None:
        """Who sees everybody's batches gets ids by which they are found."""
        (self.folder / "tokens").open("a").write(
            "".join(f"{hashlib.sha256(n.encode()).hexdigest()} {n} submit,read\n" for n in "xy")
        )
        for name in "xy":
            (self.folder / name).write_text(name)
            self.call(
                "submit", self.file("w.txt", self.urls(1)), "--id=same", "--watch", token=name
            )
        ids = self.call("list", "-q").out.split()
        self.assertEqual(ids, ["y:same", "x:same"])
        self.assertEqual([self.good("show", one)["owner"] for one in ids], ["y", "x"])
        self.assertEqual(self.call("list", "-q", token="x").out, "same\n")

    def test_several(self) -> None:
        """An error with one batch does not keep the others from it."""
        self.good("queue", "pause")
        for name in "cd":
            self.good("submit", self.file("c.txt", self.urls(1)), f"--id={name}")
        ended = self.call("cancel", "c", "none", "d")
        self.assertEqual(ended.status, 6)
        self.assertEqual([line.split("\t")[:2] for line in ended.out.splitlines()],
                         [["c", "cancelled"], ["d", "cancelled"]])  # fmt: skip
        self.assertIn("there is no batch none", ended.err)
        told = self.call("show", "c", "none", "d", "--json")
        self.assertEqual([one["task_id"] for one in told.json["batches"]], ["c", "d"])
        self.assertEqual([one["id"] for one in told.json["errors"]], ["none"])
        self.assertEqual(told.status, 6)

    def test_numbers(self) -> None:
        """Numbers that mean nothing are refused by one line, before anything is called."""
        for words in (
            "queue set max_doing=0.5", "queue set qps=nan", "queue set cap=-1", "list --limit 0",
            "top --every -1", "worker a:b --qps 0", "worker a:b --slots x",
            "submit f --expires 3y", "submit f --probe 5", "worker a:b --drain nan",
        ):  # fmt: skip
            ended = run(*words.split(), "--server=http://127.0.0.1:1")
            self.assertEqual((ended.status, ended.err.count("\n")), (2, 1), (words, ended))

    def test_odd_surroundings(self) -> None:
        """Bytes that are no text, closed streams: one line, or none, and never a traceback."""
        server = " ".join(self.server())
        program = f"{RUN[0]} -c '{RUN[2]}'"
        for line, status in (
            (f"{program} show $'\\xff' {server}", 2),
            (f"{program} list {server} >&-", 0),
            (f"{program} list {server} 2>&-", 0),
            (f"{program} submit - {server} <&-", 2),
            (f"PYTHONIOENCODING=ascii {program} list --prefix ä {server}", 2),
        ):
            done = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True,
                                  text=True, timeout=60, check=False)  # fmt: skip
            self.assertEqual(done.returncode, status, (line, done))
            self.assertLessEqual(done.stderr.count("\n"), 1, (line, done))

    def test_bars(self) -> None:
        """On a terminal there are bars, and nothing of a server's words moves its cursor."""
        path = self.file("t.txt", self.urls(2))
        words = " ".join([RUN[0], "-c", f"'{RUN[2]}'", "submit", path, "--id=t", "--into=got"])
        shown = subprocess.run(
            [need("script"), "-qec", f"{words} {' '.join(self.server())}", "/dev/null"],
            env=environment() | {"TERM": "xterm"}, cwd=self.folder, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        self.assertEqual(shown.returncode, 0, shown)
        self.assertIn("t done", shown.stdout)
        self.assertIn("t.zip", shown.stdout)
        self.assertIn("━", shown.stdout)

    def test_other_servers(self) -> None:
        """A server that is no bulkwav, and ids that would be another path."""
        for one in ("..", ".", "x:..", ""):
            self.assertEqual(self.call("watch", one).status, 6, one)
        ended = run("list", f"--server={self.source.url}")
        self.assertEqual(ended.status, 5, ended)
        for status in (302, 404, 405, 413):  # answers that are no problems of a bulkwav
            self.assertEqual(exits.status_of(Refused(status, "", "")), exits.TEMPORARY)

    def test_full_output(self) -> None:
        """An output that takes nothing more is told in one line."""
        done = subprocess.run(
            [*RUN, "list", "--json", *self.server()], env=environment(), text=True, timeout=30,
            stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, check=False,  # noqa: SIM115
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "bulkwav list: the output: No space left on device\n")


class GetTests(CommandTestCase):
    """Zips fetched, by processes of their own."""

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*RUN, *words, *self.server()], env=environment(), cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, *words: str) -> Ended:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    def test_killed(self) -> None:
        """One that is killed in the middle is gone on with; nothing is fetched twice."""
        self.source.files["/big.bin"] = os.urandom(3_000_000)
        big = self.source.url + "/big.bin"
        self.good("submit", self.file("big.txt", [big]), "--id=k", "--compress=store", "--watch")
        self.served.call("PATCH", "/v1/files", {"rate": 500_000}, token="boss")
        part = self.folder / "out" / ".bulkwav" / "k.zip.part"
        for size in (200_000, 900_000):
            process = self.start("get", "k", "--extract=out")
            until(lambda size=size: part.exists() and part.stat().st_size > size)  # type: ignore[misc]
            process.kill()
            process.communicate()
        had = part.stat().st_size
        self.served.call("PATCH", "/v1/files", {"rate": 0}, token="boss")
        before = self.served.call("GET", "/v1/files", token="boss")["bytes"]
        ended = self.ended("get", "k", "--extract=out")
        self.assertEqual((ended.status, ended.out), (0, "out\n"), ended.err)
        found = (self.folder / "out" / "big.bin").read_bytes()
        self.assertEqual(found, self.source.files["/big.bin"])
        sent = self.served.call("GET", "/v1/files", token="boss")["bytes"] - before
        self.assertLess(sent, 3_000_000 - had + 20_000)
        again = self.ended("get", "k", "--extract=out")
        self.assertIn("out has all of it already", again.err)

    def test_other_file(self) -> None:
        """A file that is there and is another one is not replaced, unless --force says so."""
        self.good("submit", self.file("o.txt", self.urls(1)), "--id=o", "--watch")
        (self.folder / "o.zip").write_text("mine")
        ended = self.ended("get", "o")
        self.assertEqual(ended.status, 1)
        self.assertIn("o.zip is there, and is another file", ended.err)
        self.assertEqual((self.folder / "o.zip").read_text(), "mine")
        self.assertEqual(self.ended("get", "o", "--force").status, 0)
        name = next(iter(self.source.files)).lstrip("/")
        (self.folder / name).write_text("mine")
        ended = self.ended("get", "o", "--extract", ".")
        self.assertIn(f"{name} is there, and is another file", ended.err)
        self.assertEqual((self.folder / name).read_text(), "mine")
        self.assertEqual(self.ended("get", "o", "--extract", ".", "--force").status, 0)
        self.assertEqual((self.folder / name).read_bytes(), self.source.files[f"/{name}"])

    def test_signals(self) -> None:
        """Ctrl-C ends with 130 and says that the batch goes on; a closed pipe is no error."""
        self.source.gate.clear()
        process = self.start("submit", self.file("s.txt", self.urls(1)), "--id=s", "--watch")
        assert process.stderr is not None
        while "running" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, -signal.SIGINT)  # a shell shows it as 130
        self.assertEqual(err, "the batch goes on; bulkwav watch s\n")
        self.source.gate.set()
        words = " ".join([*RUN[:1], "-c", f"'{RUN[2]}'", "list", *self.server()])
        piped = subprocess.run(
            ["bash", "-c", f"{words} --jsonl | true; echo ${{PIPESTATUS[0]}}"],
            env=environment(), capture_output=True, text=True, cwd=ROOT, timeout=60, check=True,
        )  # fmt: skip
        self.assertEqual((piped.stdout, piped.stderr), ("0\n", ""))


class WorkerTests(SynchronousTestCase):
    """``bulkwav worker``."""

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*RUN, "worker", *words], env=environment(), cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="bw")
        self.queue = f"sqlite://{self.folder}/queue.db"

    def test_hanging_thread(self) -> None:
        """A call that hangs in a thread keeps nobody from stopping the worker."""
        mark = Path(self.folder) / "hangs"
        with SyncPublisher(self.queue) as publisher:
            job = publisher.push(str(mark))
            worker = self.start(
                "tests.support.functions:hang", "--queue", self.queue, "--drain=0.2"
            )
            until(mark.exists)
            worker.send_signal(signal.SIGTERM)
            _, err = worker.communicate(timeout=20)
            self.assertEqual(worker.returncode, 0, err)
            record = publisher.job(job.id)
            assert record is not None
            self.assertEqual(record.state, "todo")  # given back

    def test_until_empty(self) -> None:
        """It can end when nothing is left to do, and says what became of it."""
        with SyncPublisher(self.queue) as publisher:
            jobs = publisher.push_many([1, 2])
            worker = self.start(
                "tests.support.functions:add", "--queue", self.queue, "--until-empty", "--json"
            )
            out, _ = worker.communicate(timeout=30)
            self.assertEqual((worker.returncode, json.loads(out)["counts"]["done"]), (0, 2))
            self.assertEqual([publisher.result(job) for job in jobs], [2, 3])

    def test_mistakes(self) -> None:
        """Each is one line, that says what was probably meant."""
        for words, meant in (
            ("tests.support.functoins:add --queue memory:", "there is no module"),
            ("tests.support.functions:ad --queue memory:", "did you mean add?"),
            ("tests.support.functions:time --queue memory:", "'time' is no function"),
            ("tests.support.functions --queue memory:", "expected module:function"),
            ("tests.support.functions:add", "which queue?"),
            ("tests.support.functions:add --queue foo://x", "there is no such broker"),
            ("tests.support.functions:add --queue memory: --no-run 25:00", "--no-run: expected"),
        ):
            ended = run("worker", *words.split())
            self.assertEqual((ended.status, ended.err.count("\n")), (2, 1), ended)
            self.assertIn(meant, ended.err)
