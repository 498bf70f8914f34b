"""``bulkwav demo``: shows the whole system at work on this machine, without a network.

It makes recordings and serves them on loopback. It starts a bulkwav in a temporary folder, posts a
batch with one dead URL, prints the callbacks, downloads the zip and checks it. Then it stops the
server and removes the folder.
"""

import argparse
import hashlib
import io
import json
import math
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import wave
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted_bulk.commands.exits import DONE, FAILED, CommandError
from twisted_bulk.commands.output import Form, Output
from twisted_bulk.system.process import RUN_TWISTD

RECORDINGS = 36
RECORDING_SECONDS = 1.5
MAX_STEP_SECONDS = 25.0  # for each step; then the demo fails
ANSWER_SECONDS = 0.8  # that each download waits, so that the callbacks show progress
PITCHES = (262, 294, 330, 349, 392, 440, 494, 523)


def recording(number: int) -> bytes:
    """A WAV file as telephone systems record: 8 kHz, 16 bit. It has one tone that fades."""
    pitch = PITCHES[number % len(PITCHES)] * (1 + number // len(PITCHES))
    frames = bytearray()
    for n in range(int(8000 * RECORDING_SECONDS)):
        level = 12000 * math.exp(-n / 6000) * math.sin(2 * math.pi * pitch * n / 8000)
        frames += struct.pack("<h", int(level))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(frames))
    return out.getvalue()


class _Web(BaseHTTPRequestHandler):
    """Serves the recordings and receives the callbacks."""

    files: dict[str, bytes]
    received: list[dict[str, Any]]

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        time.sleep(ANSWER_SECONDS)
        self._answer(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append(body)
        print(
            f"   callback {body['seq']}: schedule {body['schedule']} %,"
            f" {body['done']} of {body['total']} done, {body['failed']} failed"
        )
        self._answer(b"")

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the demo prints its own lines."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=MAX_STEP_SECONDS) as answer:
        return json.load(answer)


def _until(done: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + MAX_STEP_SECONDS
    while time.monotonic() < end:
        try:
            if value := done():
                return value
        except OSError:
            pass
        time.sleep(0.1)
    raise CommandError(f"{what} took longer than {MAX_STEP_SECONDS:g} s", FAILED, "demo")


def _start(folder: Path, intake: int, files: int) -> subprocess.Popen[bytes]:
    options = (
        f"--data={folder / 'data'} --intake=tcp:{intake}:interface=127.0.0.1"
        f" --files=tcp:{files}:interface=127.0.0.1 --public-url=http://127.0.0.1:{files}"
        " --allow-net=127.0.0.0/8 --notify-every=1 --per-host=12 --retries=1 --drain=1"
    )
    words = [sys.executable, "-c", RUN_TWISTD, "-n", "bulkwav", *options.split()]
    print("-> starting  twistd -n bulkwav", options)
    with open(folder / "bulkwav.log", "wb") as log:
        return subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)


def _fetch(link: str) -> bytes:
    began = time.monotonic()
    with urllib.request.urlopen(link, timeout=MAX_STEP_SECONDS) as answer:
        data: bytes = answer.read()
        etag = answer.headers["ETag"].strip('"')
    took = time.monotonic() - began
    print(f"   {len(data):,} bytes in {took:.1f} s: {len(data) / took:,.0f} bytes a second")
    if hashlib.sha256(data).hexdigest() != etag:
        raise CommandError("the zip is not what its ETag says", FAILED, "demo")
    return data


def _check(data: bytes, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist()) - {"manifest.json"}
        same = sum(archive.read(name) == files[f"/{name}"] for name in names)
        manifest = json.loads(archive.read("manifest.json"))
    print(f"   {same} of {len(files)} recordings are in the zip, identical to their sources")
    for line in manifest:
        if line["status"] == "failed":
            print(f"   the manifest names what is missing: {line['url']} ({line['code']})")
    if same != len(files) or len(manifest) != len(files) + 1:
        raise CommandError("something is missing", FAILED, "demo")


def _watch(folder: Path) -> None:
    files = {f"/recording-{n:02}.wav": recording(n) for n in range(1, RECORDINGS + 1)}
    handler = type("Web", (_Web,), {"files": files, "received": []})
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{web.server_port}"
    print(f"-> {len(files)} recordings are served on {source}")
    intake, port = _free_port(), _free_port()
    api = f"http://127.0.0.1:{intake}"
    server = _start(folder, intake, port)
    try:
        _until(lambda: server.poll() is not None or _call(f"{api}/readyz"), "the start")
        urls = [source + path for path in files] + ["http://dead.invalid/recording-00.wav"]
        body = {"task_id": "demo", "download": urls, "url": f"{source}/notify"}
        print(f"-> POST {api}/v1/batches  ({len(urls)} URLs, one of them dead)")
        print(f"   {_call(f'{api}/v1/batches', body)}")
        _until(lambda: [b for b in handler.received if b["download"]], "the batch")  # type: ignore[attr-defined]
        shown = _call(f"{api}/v1/batches/demo")
        print(f"-> it ended as {shown['status']!r}; GET {shown['download']}")
        _check(_fetch(shown["download"]), files)
    except BaseException:
        print((folder / "bulkwav.log").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        server.send_signal(signal.SIGTERM)
        print(f"-> stopped, exit status {server.wait(timeout=MAX_STEP_SECONDS)}")
        web.shutdown()
        web.server_close()


def demo(options: argparse.Namespace, output: Output) -> int:
    """Run the demo; returns the exit status."""
    began = time.monotonic()
    told = sys.stderr if output.form is not Form.TEXT else sys.stdout
    with tempfile.TemporaryDirectory(prefix="bulkwav-demo-") as folder, redirect_stdout(told):
        _watch(Path(folder))
        seconds = time.monotonic() - began
        print(f"-> all in {seconds:.0f} s. Yours: twistd -n bulkwav")
    if output.is_json:
        output.document({"recordings": RECORDINGS, "seconds": round(seconds, 1)})
    return DONE
