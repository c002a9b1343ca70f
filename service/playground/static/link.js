/** A view as the fragment of an address: models by version, how each text of the tree came about, where one looks; or a tab. */

import { DEFAULTS, partsFrom } from "./story.js";

const WITH_BRANCHES = 2_000; // characters of a fragment that has all branches, or a tab's texts; a longer one has less
const LONGEST = 16_000; // characters of a fragment: more than any browser or chat cuts off is no link
const MOST_TEXTS = 64; // of a tree that is written again
const DIGEST = 12; // digits of a model's version
const TABS = ["compare", "score", "card"];

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

/** The texts [parent, place, why, model, parts], those it branched from before each. parent: a place in the list; -1. */
async function packed(nodes, current, version, seen) {
  const models = [...new Set(nodes.map((node) => version(node.model)))];
  const texts = nodes.map((node) => [
    nodes.indexOf(node.parent), node.at, node.why, models.indexOf(version(node.model)),
    partsFrom(node.parts, node.at).map((part) => ("t" in part ? part.t : [part.n, part.c, changed(part.s)])),
  ]);
  return squeezed([2, models, texts, nodes.indexOf(current), seen]);
}

async function squeezed(view) {
  return toText(await through(new TextEncoder().encode(JSON.stringify(view)), new CompressionStream("deflate-raw")));
}

/** The fragment of another tab than Write: state is JSON. bare: the same without its texts, for where they are too long. */
export async function encodeTab(tab, state, bare) {
  const fragment = await squeezed([3, tab, state]);
  return fragment.length <= WITH_BRANCHES ? fragment : squeezed([3, tab, bare]);
}

/** A model with its version, where that is known. */
export function versioned(models, name) {
  const digest = models.find((model) => model.id === name)?.digest;
  return digest && !name.includes("@") ? `${name}@${digest.slice(0, DIGEST)}` : name;
}

/**
 * The fragment for a text and, where they fit, all others of the tree; null where even the one is too long.
 * version: a model's name with its version. seen: [character looked at, colours, layer, part, unit].
 */
export async function encode(roots, current, version, seen) {
  const all = roots.flatMap(function below(node) { return [node, ...node.children.flatMap(below)]; });
  if (all.length <= MOST_TEXTS) {
    const fragment = await packed(all, current, version, seen);
    if (fragment.length <= WITH_BRANCHES) return { fragment, whole: true };
  }
  const path = [];
  for (let node = current; node; node = node.parent) path.unshift(node);
  const fragment = path.length <= MOST_TEXTS ? await packed(path, current, version, seen) : "";
  return { fragment: fragment && fragment.length <= LONGEST ? fragment : null, whole: all.length === path.length };
}

/** What a fragment holds: texts with model, parent, at, why and own parts, the one shown, and where one looks; or tab and state. */
export async function decode(fragment) {
  if (fragment.length > LONGEST) throw new Error("longer than any of ours");
  const bytes = await through(toBytes(fragment), new DecompressionStream("deflate-raw"));
  const [version, models, texts, current = 0, seen = []] = JSON.parse(new TextDecoder().decode(bytes));
  if (version === 3 && TABS.includes(models)) return { tab: models, state: texts };
  if (version === 1) return { texts: [{ model: models, parent: -1, at: 0, why: "", parts: texts.map(partOf) }], current: 0, seen: [] };
  if (version !== 2 || !(current in texts) || texts.length > MOST_TEXTS) throw new Error("of another version");
  return { texts: texts.map(([parent, at, why, model, parts], place) => {
    const known = typeof models[model] === "string" && typeof why === "string" && whole(at) && Number.isInteger(parent);
    if (!known || parent < -1 || parent >= place) throw new Error("no tree");
    return { model: models[model], parent, at, why, parts: parts.map(partOf) };
  }), current, seen };
}

const whole = (number) => Number.isInteger(number) && number >= 0;

const KINDS = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, typeof value]));

function partOf(part) {
  if (typeof part === "string") return { t: part };
  const [n, c, own] = part;
  if (!whole(n) || !whole(c) || c > n) throw new Error("no numbers");
  const known = Object.entries(own).filter(([name, value]) => KINDS[name] === typeof value);
  return { n, c, s: { ...DEFAULTS, ...Object.fromEntries(known) } };
}
