/** What the model makes of a text that someone pastes: a heat map, figures, and lines by surprise. */

import { html, nothing, render } from "./lit-html.js";
import { bitsOf, counted, here } from "./panels.js";
import { ALTERNATIVES, Doc, learn, scored } from "./story.js";
import { Strip } from "./strip.js";
import { TextView } from "./text_view.js";

const LONGEST = 60_000; // characters whose details fit in one answer
const DETAILS = 200_000;
const MOST_LINES = 40;

/** The lines of a text with their bits per character, most surprising first. */
export function ranked(doc) {
  const lines = [];
  let from = 0, number = 1;
  for (let at = 0; at <= doc.chars.length; at++) {
    if (at < doc.chars.length && doc.chars[at] !== "\n") continue;
    const end = Math.min(at + 1, doc.chars.length);
    const text = doc.chars.slice(from, at).join("");
    if (text.trim()) {
      const bits = doc.bits.slice(from, end).reduce((sum, one) => sum + one, 0);
      lines.push({ text, from, number, mean: bits / (end - from) });
    }
    from = at + 1;
    number++;
  }
  return lines.sort((a, b) => b.mean - a.mean);
}

/** Make the view in an element. */
export function make(host, { chosen, say, current, named, address }) {
  let doc = null, result = null, view = null, strip = null, busy = false, shown = [];

  /** The text that was scored last, in the address; without it where it is long. */
  const link = () => address(shown, shown.slice(0, 1));

  async function score(model = chosen()) {
    const text = host.querySelector("#pasted").value;
    const next = new Doc();
    next.type(text);
    if (!next.chars.length || next.chars.length > LONGEST) {
      say(next.chars.length ? `Here a text may have ${LONGEST.toLocaleString("en")} characters; the route /v1/score takes any number.` : "There is no text yet; paste one.");
      return;
    }
    busy = true;
    shown = [named(model), text];
    link();
    draw();
    try {
      const top = Math.max(0, Math.min(ALTERNATIVES, Math.floor(DETAILS / next.chars.length) - 2));
      result = await scored(text, model, top);
      learn(next, result.details);
      doc = next;
      doc.made.fill(true);
    } catch (error) {
      say(error.message);
    }
    busy = false;
    draw();
    view.show(doc);
    strip.show(doc);
  }

  function look(at) {
    strip?.look(at);
    const place = host.querySelector("#score-here");
    if (place) render(here(doc, at, () => {}), place);
  }

  function keys(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !doc) return;
    event.preventDefault();
    view.look(Math.min(doc.chars.length - 1, Math.max(0, view.at + step)), true);
  }

  const figures = () => html`<div class="figures">
    <div><b>${result.bits_per_character.toFixed(2)}</b><span>bits per character</span></div>
    <div><b>${result.bits.toFixed(0)}</b><span>bits for ${counted(result.characters)}</span></div>
    ${result.anomaly ? html`<div><b>${result.anomaly.percentile.toFixed(1)} %</b><span>of passages it never saw surprise it less</span></div>` : nothing}
    ${result.unseen_characters ? html`<div><b>${result.unseen_characters}</b><span>character${result.unseen_characters === 1 ? "" : "s"} it never saw</span></div>` : nothing}
  </div>`;

  const table = () => html`<table><caption class="unseen">Lines by bits per character, most surprising first</caption>
    <thead><tr><th class="number">Bits</th><th class="number">Line</th><th>Text, most surprising first</th></tr></thead>
    <tbody>${ranked(doc).slice(0, MOST_LINES).map((line) => html`<tr><td class="number">${bitsOf(line.mean)}</td>
      <td class="number">${line.number}</td><td class="words">${line.text.slice(0, 200)}</td></tr>`)}</tbody></table>`;

  function draw() {
    render(html`<div class="desk"><div class="sheet">
      <form @submit=${(event) => { event.preventDefault(); say(""); score(); }}>
        <label for="pasted">A text to score</label>
        <textarea id="pasted" rows="4" spellcheck="false" placeholder="Paste a text: what does the model make of it?"></textarea>
        <div class="row"><button class="main" ?disabled=${busy}>Score</button></div></form>
      <div class="paper fit" tabindex="0" role="group" aria-label="The scored text" @keydown=${keys}></div>
      <div class="under"><canvas class="strip" role="img" aria-label="Surprise and entropy along the scored text"></canvas>
        <p class="legend"><span class="key bar">surprise</span><span class="key curve">entropy</span></p></div>
      ${doc && result ? html`${figures()}${table()}` : nothing}</div>
      <aside class="side"><section class="box here"><h2>Here</h2><div id="score-here"></div></section></aside></div>`, host);
    view ??= new TextView(host.querySelector(".paper"), look);
    strip ??= new Strip(host.querySelector(".strip"), (at) => view.look(at, true));
    look(view.at);
  }

  /** Score what a link says. */
  async function restore([model, text]) {
    if (typeof model !== "string") return;
    if (typeof text !== "string") {
      say("The text is too long for the link; paste it again.");
      return;
    }
    host.querySelector("#pasted").value = text;
    await score(current(model));
  }

  draw();
  return { opened: link, restore };
}
