/** Calls of the server's routes: the key, errors as sentences, and streams of events. */

const BASE = new URL("../../", import.meta.url);
const KEY = "unroll.key";
const BROKEN = "The connection to the server broke. What came before is kept.";
export const AWAY = "The server cannot be reached. Check the connection, then try again.";

/** What went wrong, in a sentence; `status` is 0 where no answer came. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let askForKey = async () => null;

/** Say how to ask a person for a key: a function of a sentence that gives a key, or null for none. */
export function askKeyWith(ask) {
  askForKey = ask;
}

/** Whether a key is sent with each request. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

async function problemOf(answer) {
  let said;
  try {
    const body = await answer.json();
    said = body.error?.message ?? body.error ?? body.message;
  } catch {
    said = null;
  }
  return new Problem(sentence(String(said ?? `The server answered with status ${answer.status}`)), answer.status);
}

async function send(path, options, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  try {
    return await fetch(new URL(path, BASE), { ...options, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(AWAY);
  }
}

async function request(path, body, signal) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  for (let again = false; ; again = true) {
    const answer = await send(path, options, signal);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status !== 401) throw problem;
    const key = await askForKey(again ? "The server does not know this key." : "This server needs a key.");
    if (!key) throw problem;
    sessionStorage.setItem(KEY, key);
  }
}

/** Whether the server has a route. */
export async function exists(path) {
  return (await send(path, { method: "OPTIONS" })).ok;
}

/** The answer of a route as JSON. */
export async function json(path, body, signal) {
  const answer = await request(path, body, signal);
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(BROKEN);
  }
}

/** The data of each event of a stream, until [DONE]. Throws Problem where it ends before. */
export async function* events(path, body, signal) {
  const answer = await request(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(BROKEN);
    }
    if (read.done) throw new Problem(BROKEN);
    held += read.value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const event = JSON.parse(data);
      if (event.error) throw new Problem(sentence(event.error.message ?? String(event.error)), 500);
      yield event;
    }
  }
}
