// Asking the server: JSON with the token, and every error as an ApiError that says what it is in words.

import { to } from "./router.js";
import { current } from "./token.js";

export class ApiError extends Error {
  /** `status` is that of HTTP, 0 where no answer came; `retryable` says whether asking again may help. */
  constructor(status, code, message, retryable, details) {
    super(message);
    Object.assign(this, { status, code, retryable, details });
  }
}

/** GET an address of data. Parameters that are null, undefined or empty are left out; a list stands for several. */
export async function get(path, parameters = {}, signal = undefined) {
  const response = await ask(to(path, parameters), { signal });
  return response.json();
}

/** POST a change. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

/** GET a file, as a blob. */
export async function file(path, parameters) {
  return (await ask(to(path, parameters), {})).blob();
}

/** GET a stream. The caller reads `response.body`. */
export function stream(path, parameters, signal) {
  return ask(to(path, parameters), { signal, headers: { Accept: "text/event-stream" } });
}

async function ask(where, options) {
  const token = current();
  const headers = { Accept: "application/json", ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(where, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is `waypost serve` still running?", true, {});
  }
  if (response.ok) return response;
  throw await failure(response, token);
}

async function failure(response, token) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // an answer that is not ours, or that was cut: its number has to do
  }
  const retryable = told.retryable ?? response.status >= 500;
  const message = told.message ?? `the server answered with ${response.status}`;
  // a token that was given meanwhile may be the right one
  if (response.status === 401 && token === current()) window.dispatchEvent(new CustomEvent("waypost:locked"));
  return new ApiError(response.status, told.code ?? "unknown", message, retryable, told.details ?? {});
}
