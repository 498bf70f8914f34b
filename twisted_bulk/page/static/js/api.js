// Calls of the API. The token is kept for this tab only, and never stands in a URL.

const KEY = "bulkwav.token";
const MAX_KEPT = 100; // answers that are kept, to be asked for again by their ETags

let token = "";
try {
  token = sessionStorage.getItem(KEY) || "";
} catch {
  // It holds until the page is left.
}
const kept = new Map();
let unauthorized = () => {};

export const session = { scopes: [], everybody: false, rate: null, name: "" };

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export function setToken(text) {
  token = text;
  kept.clear();
  try {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  } catch {
    // It holds until the page is left.
  }
}

export function getToken() {
  return token;
}

// Call `ask` when the API wants a token, or another one.
export function whenUnauthorized(ask) {
  unauthorized = ask;
}

export function may(scope) {
  return session.scopes.includes(scope) || session.scopes.includes("admin");
}

export function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// The answer of a call, as an object. Raises Problem.
async function call(method, path, body) {
  const sent = { ...headers() };
  const known = method === "GET" ? kept.get(path) : undefined;
  if (known) sent["If-None-Match"] = known.tag;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers: sent, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, "unreachable", "");
  }
  if (answer.status === 304 && known) return known.data;
  const data = await answer.json().catch(() => null);
  if (answer.ok) {
    if (method === "GET") keep(path, answer.headers.get("ETag"), data);
    return data;
  }
  const problem = new Problem(answer.status, data?.code || "", data?.detail || data?.title || "");
  if (answer.status === 401 || problem.code === "protected_mode") unauthorized(problem);
  throw problem;
}

function keep(path, tag, data) {
  kept.delete(path);
  if (!tag) return;
  kept.set(path, { tag, data });
  if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body ?? {});
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);

// A query of those values that are not empty.
export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== "" && value !== null && value !== undefined && value !== false) found.set(name, value);
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

export function batchPath(id, more = "") {
  return `/v1/batches/${encodeURIComponent(id)}${more}`;
}
