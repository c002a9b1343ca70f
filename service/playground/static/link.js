/** A view as the fragment of an address: the model's version, what was typed, and how the rest was drawn. */

import { DEFAULTS } from "./story.js";

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

function toText(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function toBytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
}

const changed = (settings) => Object.fromEntries(
  Object.entries(settings).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(DEFAULTS[name])),
);

/** The fragment for a model, as NAME@DIGEST, and the parts of a text. */
export async function encode(model, parts) {
  const short = parts.map((part) => ("t" in part ? part.t : [part.n, part.c, changed(part.s)]));
  const bytes = new TextEncoder().encode(JSON.stringify([1, model, short]));
  return toText(await through(bytes, new CompressionStream("deflate-raw")));
}

/** The model and the parts of a fragment. Throws where it is none of ours. */
export async function decode(fragment) {
  const bytes = await through(toBytes(fragment), new DecompressionStream("deflate-raw"));
  const [version, model, short] = JSON.parse(new TextDecoder().decode(bytes));
  if (version !== 1 || typeof model !== "string" || !Array.isArray(short)) throw new Error("of another version");
  return { model, parts: short.map(partOf) };
}

const KINDS = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, typeof value]));

function partOf(part) {
  if (typeof part === "string") return { t: part };
  const [n, c, own] = part;
  if (!Number.isInteger(n) || !Number.isInteger(c) || c > n || c < 0) throw new Error("no numbers");
  const known = Object.entries(own).filter(([name, value]) => KINDS[name] === typeof value);
  return { n, c, s: { ...DEFAULTS, ...Object.fromEntries(known) } };
}
