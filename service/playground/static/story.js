/** A text and how it came about: parts that were typed or written, with what the model thought of each character. */

import { events, json, Problem } from "./api.js";

export const DEFAULTS = {
  temperature: 0.8, top_p: 1, top_k: 0, min_p: 0, max_tokens: 400, seed: 1, stop: [], kind: "none", pattern: "",
};
export const ALTERNATIVES = 8;
const MOST_DETAILS = 200_000; // numbers that /v1/score reports in one answer
const CONSTRAINTS = { regex: String, choice: lines, json: JSON.parse, grammar: String };

function lines(text) {
  return text.split("\n").filter(Boolean);
}

function constraintOf({ kind, pattern }) {
  if (kind === "none" || !(kind in CONSTRAINTS)) return {};
  try {
    return { structured_outputs: { [kind]: CONSTRAINTS[kind](pattern) } };
  } catch {
    throw new Problem("The schema is not JSON; correct it, or choose another kind of constraint.");
  }
}

/** A text with what is known of each of its characters; arrays have an entry for each. */
export class Doc {
  constructor() {
    this.chars = [];
    this.bits = []; // of surprise; NaN while unknown
    this.entropy = []; // bits that were expected; NaN while unknown
    this.alternatives = []; // [character, probability] each, likeliest first; null while unknown
    this.ranks = [];
    this.made = []; // whether the model wrote it
  }

  get text() {
    return this.chars.join("");
  }

  push(char, made, bits = NaN, alternatives = null) {
    this.chars.push(char);
    this.made.push(made);
    this.bits.push(bits);
    this.entropy.push(NaN);
    this.ranks.push(0);
    this.alternatives.push(alternatives);
  }

  type(text) {
    for (const char of text) this.push(char, false);
  }

  /** The first characters of another, as the beginning of this. */
  copy(other, end = other.chars.length) {
    for (const name of ["chars", "bits", "entropy", "alternatives", "ranks", "made"]) {
      this[name] = other[name].slice(0, end);
    }
  }

  /** Bits per character of those whose surprise is known, from a place on. */
  mean(from = 0) {
    let sum = 0, count = 0;
    for (let at = from; at < this.bits.length; at++) {
      if (!Number.isNaN(this.bits[at])) { sum += this.bits[at]; count++; }
    }
    return count ? sum / count : NaN;
  }
}

let nodes = 0;

/** A place in the tree of branches. parts: {t: typed} or {n: asked for, c: kept, s: settings}, in order. */
export class Story extends Doc {
  constructor(model, parent = null, at = 0, why = "") {
    super();
    Object.assign(this, { id: ++nodes, model, parent, at, why, parts: [], problem: null, finish: null });
    this.children = [];
    if (parent) {
      this.copy(parent, at);
      this.parts = partsUpTo(parent.parts, at);
      parent.children.push(this);
    }
  }

  typed(text) {
    if (!text) return;
    this.type(text);
    const last = this.parts.at(-1);
    if (last && "t" in last) this.parts[this.parts.length - 1] = { t: last.t + text };
    else this.parts.push({ t: text });
  }

  get lastSettings() {
    return this.parts.findLast((part) => "s" in part)?.s ?? null;
  }

  /**
   * Let the model go on. part: {n, s}, and c where the text shall be cut after that many characters.
   * resumed: a part that broke off; what came of it is asked for again and has to be the same.
   */
  async write(part, signal, grew, resumed = null) {
    const begin = resumed ? this.chars.length - resumed.c : this.chars.length;
    const prompt = this.chars.slice(0, begin).join("");
    const constrained = part.s.kind !== "none";
    const wanted = part.c ?? part.n;
    const body = { ...bodyOf(this.model, prompt, part.s), max_tokens: constrained ? part.n : wanted };
    const own = resumed ?? { n: part.n, c: 0, s: part.s };
    if (!resumed) this.parts.push(own);
    this.problem = this.finish = null;
    let seen = 0;
    const tokens = [];
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    try {
      for await (const event of events("v1/completions", body, both)) {
        const choice = event.choices[0];
        if (!choice) continue;
        this.served = event.model;
        this.fingerprint = event.system_fingerprint;
        this.finish = choice.finish_reason ?? this.finish;
        takeTokens(choice.logprobs, tokens);
        for (const char of choice.text) {
          if (seen >= wanted) break;
          this.take(begin + seen++, char, tokens.shift(), own);
        }
        grew();
        if (seen >= wanted && !this.finish) { stop.abort(); break; }
      }
    } catch (error) {
      if (error.name !== "AbortError") { this.problem = error; throw error; }
      this.finish = "stopped";
    }
  }

  take(at, char, token, part) {
    if (at < this.chars.length) { // of a part that is asked for again
      if (this.chars[at] !== char) throw new Problem("The server wrote another text than before; write it anew.");
      return;
    }
    part.c++;
    this.push(char, true, token?.bits, token?.alternatives ?? null);
  }

  /** Learn what /v1/score says of every character; false where the text is too long to ask. */
  async score(signal) {
    const top = Math.min(ALTERNATIVES, Math.floor(MOST_DETAILS / Math.max(1, this.chars.length)) - 2);
    if (top < 0 || !this.chars.length) return false;
    const result = await scored(this.text, this.model, top, signal);
    learn(this, result.details);
    return true;
  }
}

/** Score a text with details of each character. */
export async function scored(text, model, top, signal) {
  const body = { texts: [text], model, details: true, top_logprobs: top };
  return (await json("v1/score", body, signal)).results[0];
}

/** Put details of a score into a Doc. */
export function learn(doc, details) {
  details.forEach((one, at) => {
    doc.bits[at] = one.bits;
    doc.entropy[at] = one.entropy_bits;
    doc.ranks[at] = one.rank;
    if (one.alternatives) doc.alternatives[at] = one.alternatives.map((each) => [each.character, each.probability]);
  });
}

function bodyOf(model, prompt, s) {
  return {
    model, prompt, temperature: s.temperature, top_p: s.top_p, top_k: s.top_k, min_p: s.min_p, seed: s.seed,
    stop: s.stop, logprobs: ALTERNATIVES, stream: true, ...constraintOf(s),
  };
}

function takeTokens(logprobs, into) {
  if (!logprobs) return;
  logprobs.tokens.forEach((token, at) => {
    const top = Object.entries(logprobs.top_logprobs[at] ?? {}).sort((a, b) => b[1] - a[1]);
    into.push({
      bits: -logprobs.token_logprobs[at] / Math.LN2,
      alternatives: top.slice(0, ALTERNATIVES).map(([char, log]) => [char, Math.exp(log)]),
    });
  });
}

/** The parts of the first `end` characters. */
export function partsUpTo(parts, end) {
  const kept = [];
  let at = 0;
  for (const part of parts) {
    if (at >= end) break;
    const length = "t" in part ? Array.from(part.t).length : part.c;
    const take = Math.min(length, end - at);
    kept.push("t" in part ? { t: Array.from(part.t).slice(0, take).join("") } : { ...part, c: take });
    at += take;
  }
  return kept;
}

/** The parts of what comes after the first `start` characters. */
export function partsFrom(parts, start) {
  const kept = [];
  let at = 0;
  for (const part of parts) {
    const length = "t" in part ? Array.from(part.t).length : part.c;
    if (at >= start) kept.push(part);
    else if (at + length > start && "t" in part) kept.push({ t: Array.from(part.t).slice(start - at).join("") });
    at += length;
  }
  return kept;
}
