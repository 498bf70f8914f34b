// A stream of server-sent events, read by fetch: EventSource cannot send a token in a header.

const RETRIES = [1000, 2000, 5000, 10000, 30000]; // ms before a lost stream is opened again

const SILENT_MS = 40000; // the server sends something every 15 s: the connection is dead

// Reads /v1/events until it is stopped. `tell` is called with {type: "event", name, data}, and with
// {type: "state", state}: "live", "away" (it is tried again), or "refused" (with the status).
export class Stream {
  constructor(token, tell) {
    this.token = token;
    this.tell = tell;
    this.last = "";
    this.failures = 0;
    this.stopped = new AbortController();
    this.run();
  }

  stop() {
    this.stopped.abort();
  }

  async run() {
    while (!this.stopped.signal.aborted) {
      try {
        await this.read();
        this.failures = 0;
      } catch {
        this.failures += 1;
      }
      if (this.stopped.signal.aborted) return;
      if (this.isRefused) return;
      this.tell({ type: "state", state: "away" });
      const pause = RETRIES[Math.min(this.failures, RETRIES.length) - 1] ?? RETRIES[0];
      await new Promise((done) => setTimeout(done, pause * (0.75 + Math.random() / 2)));
    }
  }

  async read() {
    const headers = { Accept: "text/event-stream" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (this.last) headers["Last-Event-ID"] = this.last;
    const answer = await fetch("/v1/events", {
      headers, signal: this.stopped.signal, cache: "no-store", credentials: "omit",
    });
    if (answer.status === 401 || answer.status === 403) {
      this.isRefused = true;
      this.tell({ type: "state", state: "refused", status: answer.status });
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    this.tell({ type: "state", state: "live" });
    this.failures = 0;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const silent = setTimeout(() => reader.cancel().catch(() => {}), SILENT_MS);
      const { value, done } = await reader.read();
      clearTimeout(silent);
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      blocks.forEach((block) => this.take(block));
    }
  }

  take(block) {
    const fields = {};
    for (const line of block.split("\n")) {
      const at = line.indexOf(": ");
      if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
    }
    if (fields.id) this.last = fields.id;
    if (fields.data) this.tell({ type: "event", name: fields.event, data: JSON.parse(fields.data) });
  }
}
