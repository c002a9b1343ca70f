/** Two texts side by side: other models, prompts or temperatures, and the same seed. */

import { html, render } from "./lit-html.js";
import { counted } from "./panels.js";
import { DEFAULTS, Story } from "./story.js";
import { anySeed } from "./settings.js";
import { TextView } from "./text_view.js";

/** Make the view in an element. */
export function make(host, { models, chosen, say, current, named, address }) {
  const shared = { seed: anySeed(), length: 300 };
  const sides = [{ name: "Left", temperature: 0.5 }, { name: "Right", temperature: 1 }].map((side) => (
    { ...side, model: null, prompt: "", story: null, view: null } // without a model of its own it has that of Write
  ));
  let running = null, shown = [];

  /** The view that was written last, in the address; without what was typed where that is long. */
  const link = () => address(shown, shown.map((one) => (Array.isArray(one) ? one.slice(0, 2) : one)));

  async function run() {
    running?.abort();
    shown = [shared.seed, shared.length, ...sides.map((side) => [named(side.model ?? chosen()), side.temperature, side.prompt])];
    link();
    const own = running = new AbortController();
    draw();
    const done = await Promise.allSettled(sides.map(async (side) => {
      const story = side.story = new Story(side.model ?? chosen());
      story.typed(side.prompt);
      side.view.show(story);
      const s = { ...DEFAULTS, temperature: side.temperature, seed: shared.seed };
      await story.write({ n: shared.length, s }, own.signal, () => { side.view.grew(); facts(); });
      await story.score(own.signal);
      side.view.recolour();
    }));
    const failed = done.find(({ status, reason }) => status === "rejected" && reason.name !== "AbortError");
    if (failed) say(failed.reason.message);
    if (running === own) running = null;
    draw();
  }

  const words = (side) => {
    const { story } = side;
    if (!story?.chars.length) return "";
    const mean = story.mean();
    return `${counted(story.chars.length)} · ${Number.isNaN(mean) ? "" : `${mean.toFixed(2)} bits per character`}`;
  };

  /** How many written characters are the same on both sides, from the first one on. */
  function together() {
    const [left, right] = sides.map((side) => side.story);
    if (!left || !right) return "";
    const a = left.text.slice(sides[0].prompt.length), b = right.text.slice(sides[1].prompt.length);
    let same = 0;
    while (same < Math.min(a.length, b.length) && a[same] === b[same]) same++;
    if (!same) return a && b ? "They differ from the first written character on." : "";
    return same === 1 ? "The first written character is the same." : `The first ${same} written characters are the same.`;
  }

  function facts() {
    sides.forEach((side, at) => { host.querySelector(`#facts-${at}`).textContent = words(side); });
    host.querySelector("#together").textContent = together();
  }

  const number = (event, least, most, keep) => {
    const value = event.target.valueAsNumber;
    if (Number.isFinite(value)) keep(Math.min(most, Math.max(least, value)));
    draw();
  };

  function pane(side, at) {
    return html`<div class="pane"><h2 class="unseen">${side.name}</h2>
      <div class="fields">
        <label class="field">Model<select id=${`model-${at}`} @change=${(event) => { side.model = event.target.value; }}>
          ${models().map((model) => html`<option ?selected=${model.id === (side.model ?? chosen())}>${model.id}</option>`)}</select></label>
        <label class="field">Temperature<input id=${`temperature-${at}`} type="number" min="0" max="2" step="0.05"
          .value=${String(side.temperature)} @change=${(event) => number(event, 0, 2, (value) => { side.temperature = value; })}></label>
        <label class="field wide">Begin with<textarea id=${`prompt-${at}`} rows="1" spellcheck="false" .value=${side.prompt}
          @input=${(event) => { side.prompt = event.target.value; }}></textarea></label>
      </div>
      <div class="paper" tabindex="0" role="group" aria-label=${`${side.name} text`}></div>
      <div class="under"><p class="facts" id=${`facts-${at}`}></p></div></div>`;
  }

  function draw() {
    render(html`<form class="narrow" @submit=${(event) => { event.preventDefault(); say(""); run(); }}>
      <div class="row"><button class="main">Write both</button>
        <button type="button" ?disabled=${!running} @click=${() => running?.abort()}>Stop</button>
        <label class="field join">Seed <input id="both-seed" type="number" min="0" .value=${String(shared.seed)}
          @change=${(event) => number(event, 0, Number.MAX_SAFE_INTEGER, (value) => { shared.seed = value; })}></label>
        <label class="field join">Length <input id="both-length" type="number" min="1" max="20000" .value=${String(shared.length)}
          @change=${(event) => number(event, 1, 20_000, (value) => { shared.length = value; })}></label>
        <span class="small" id="together" role="status"></span></div></form>
      <div class="pairs">${sides.map(pane)}</div>`, host);
    host.querySelectorAll(".paper").forEach((paper, at) => {
      if (sides[at].view) return;
      sides[at].view = new TextView(paper);
      sides[at].view.follows = false; // so that both show their beginnings
    });
    facts();
  }

  /** Write what a link says. */
  async function restore([seed, length, ...views]) {
    const given = views.length === 2 && views.every(([model, temperature, prompt]) => (
      typeof model === "string" && temperature >= 0 && temperature <= 2 && ["string", "undefined"].includes(typeof prompt)));
    if (!given || !Number.isSafeInteger(seed) || !(length >= 1 && length <= 20_000)) { draw(); return; }
    Object.assign(shared, { seed, length: Math.trunc(length) });
    views.forEach(([model, temperature, prompt], at) => Object.assign(sides[at], { model: current(model), temperature, prompt: prompt ?? "" }));
    draw();
    if (views.every((view) => view.length === 3)) await run();
    else say("What was typed is too long for the link; type it again.");
  }

  draw();
  return { opened() { draw(); link(); }, restore };
}
