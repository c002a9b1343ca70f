/** What stands beside the text: the alternatives of a character, the tree of branches, the model's card. */

import { html, nothing } from "./lit-html.js";

const NAMES = { " ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return", "\u00a0": "hard space" };
const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽" };

/** A character as it can be seen. */
export const signOf = (char) => SIGNS[char] ?? char;
/** A character as it can be heard. */
export const nameOf = (char) => NAMES[char] ?? char;
/** A share in per cent, with two digits that count. */
export const percent = (share) => {
  const value = share * 100;
  return `${value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value >= 0.01 ? value.toFixed(2) : "<0.01"} %`;
};
/** Bits, or a dash where they are unknown. */
export const bitsOf = (bits) => (Number.isNaN(bits) ? "–" : bits.toFixed(2));

/** Whether an alternative can stand in a text; a byte of a character that the model lacks cannot. */
export const isCharacter = (char) => Array.from(char).length === 1;

/** What the model thought at a character. choose: called with an alternative. */
export function here(doc, at, choose) {
  if (!doc || at < 0 || at >= doc.chars.length) {
    return html`<p class="small rest">Point at a character, or step to it with the arrow keys.</p>`;
  }
  const char = doc.chars[at], found = doc.alternatives[at] ?? [];
  const rank = doc.ranks[at] || found.findIndex(([one]) => one === char) + 1;
  return html`
    <p class="spot"><b class="glyph">${signOf(char)}</b><span>
      <strong>${bitsOf(doc.bits[at])} bits</strong> of surprise${rank ? html`, rank ${rank}` : nothing}<br>
      <span class="small">${Number.isNaN(doc.entropy[at]) ? "\u00a0" : html`${bitsOf(doc.entropy[at])} bits expected`}</span>
    </span></p>
    <ol class="choices">${found.map(([one, share], index) => {
      const own = one === char, usable = isCharacter(one) && !own;
      return html`<li><button ?disabled=${!usable} class=${own ? "own" : ""} @click=${() => choose(at, one)}>
        <kbd aria-hidden="true">${index + 1}</kbd><b class="glyph" aria-hidden="true">${signOf(one)}</b><i class="unseen">${nameOf(one)}, </i>
        <progress max="1" .value=${share} aria-hidden="true"></progress><span>${percent(share)}<i class="unseen">${
          own ? ", written here" : usable ? ", branch here" : ""}</i></span></button></li>`;
    })}</ol>`;
}

/** The sentence that a screen reader says of a character. */
export function spoken(doc, at) {
  const found = (doc.alternatives[at] ?? []).filter(([one]) => one !== doc.chars[at]).slice(0, 3);
  const others = found.map(([one, share]) => `${nameOf(one)} ${percent(share)}`).join(", ");
  const bits = Number.isNaN(doc.bits[at]) ? "" : `, ${doc.bits[at].toFixed(1)} bits`;
  return `${nameOf(doc.chars[at])}${bits}${others ? `; instead: ${others}` : ""}`;
}

const BYTES = 256; // ids of bytes at the beginning of each vocabulary

const tail = (node) => {
  const from = node.parent ? node.at + (node.why === "on" ? 0 : 1) : 0;
  const shown = node.chars.slice(from, from + 34).join("").replaceAll("\n", "↵");
  return shown || "(empty)";
};

/** The tree of all that was written. select: called with a branch. */
export function tree(roots, current, select) {
  if (!roots.length) return html`<p class="small rest">Each text you begin and each branch stays here to go back to.</p>`;
  const rows = [];
  const walk = (node, depth) => {
    rows.push([node, depth]);
    const on = node.children.filter((child) => child.why === "on"), other = node.children.filter((child) => child.why !== "on");
    for (const child of other) walk(child, depth + 1);
    for (const child of on) walk(child, depth);
  };
  for (const root of roots) walk(root, 0);
  return html`<ul class="tree">${rows.map(([node, depth]) => html`<li class=${`deep${Math.min(depth, 6)}`}>
    <button aria-current=${node === current ? "true" : nothing} @click=${() => select(node)}>
      <span class="why">${node.parent ? (node.why === "on" ? "+" : `${node.at} → ${signOf(node.why)}`) : "•"}</span>
      <span class="tail">${tail(node)}</span><span class="mean">${bitsOf(node.mean(node.parent ? node.at : 0))}</span>
    </button></li>`)}</ul>`;
}

/** "1 character", "2,000 characters". */
export const counted = (value) => `${count(value)} character${value === 1 ? "" : "s"}`;

const count = (value) => value.toLocaleString("en");

/** The models that are served, with their figures. */
export function cards(models, tokenizer) {
  return html`<div class="cards">${models.map((model) => html`<article class="box">
    <h2>${model.id}${model.default ? html` <span class="tag">default</span>` : nothing}</h2>
    ${Object.keys(model.bits_per_character).length ? nothing : html`<p class="small">This checkpoint has no figures of text it
      did not learn from; unroll evaluate measures them.</p>`}
    <div class="figures">${Object.entries(model.bits_per_character).toReversed().map(([part, bits]) => html`<p class=${part}>
      <b>${bits.toFixed(2)}</b><span>bits per character, ${part} part: as unsure as between ${(2 ** bits).toFixed(1)} equally likely characters</span></p>`)}</div>
    <dl>
      <dt>Parameters</dt><dd>${count(model.parameters)}</dd>
      ${tokenizer[model.id] ? html`<dt>Vocabulary</dt><dd>${count(tokenizer[model.id] - BYTES)} characters; ${BYTES} bytes spell all others</dd>` : nothing}
      <dt>Longest text</dt><dd>${count(model.max_model_len)} characters in one request; the model itself has no longest</dd>
      <dt>Written</dt><dd>${new Date(model.created * 1000).toISOString().slice(0, 10)}</dd>
      <dt>In memory</dt><dd>${model.loaded ? "yes" : "no; the first request loads it"}</dd>
      ${model.aliases?.length ? html`<dt>Other names</dt><dd>${model.aliases.join(", ")}</dd>` : nothing}
      <dt>Version</dt><dd><code>${model.digest}</code></dd>
    </dl>
  </article>`)}</div>`;
}
