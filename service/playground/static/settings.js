/** The fields that say how to write. */

import { html, render } from "./lit-html.js";
import { DEFAULTS } from "./story.js";

const NUMBERS = [
  ["temperature", "Temperature", 0, 2, 0.05, "Below 1 likelier, above 1 rarer characters; 0 always takes the likeliest."],
  ["top_p", "Top-p", 0.01, 1, 0.01, "Draws among the fewest characters that have this share of the probability."],
  ["min_p", "Min-p", 0, 1, 0.01, "Leaves out what is less likely than this share of the likeliest."],
  ["top_k", "Top-k", 0, 100, 1, "Draws among this many of the likeliest; 0 is all."],
];
const KINDS = [
  ["none", "nothing", ""], ["regex", "a regular expression", "[A-Z][a-z]+ [0-9]{4}"], ["choice", "one of these lines", "yes\nno"],
  ["json", "a JSON schema", '{"type": "object"}'], ["grammar", "a grammar", 'start: /[a-z]+/'],
];
const ESCAPES = { "\\n": "\n", "\\t": "\t", "\\\\": "\\" };
const unescape = (text) => text.replace(/\\[nt\\]/g, (found) => ESCAPES[found]);
const escape = (text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t");

/** A seed that people can read to each other. */
export const anySeed = () => crypto.getRandomValues(new Uint16Array(1))[0];

/** The fields in an element, and what they say now. */
export class Settings {
  constructor(host) {
    this.host = host;
    this.values = { ...DEFAULTS, seed: anySeed() };
    this.draw();
  }

  take(values) {
    this.values = { ...DEFAULTS, ...values };
    this.draw();
  }

  set(name, value) {
    this.values = { ...this.values, [name]: value };
    this.draw();
  }

  number(name, field, least, most) {
    const value = field.valueAsNumber;
    if (Number.isFinite(value)) this.set(name, Math.min(most, Math.max(least, value)));
    else this.draw();
  }

  draw() {
    const { values } = this;
    const kind = KINDS.find(([name]) => name === values.kind) ?? KINDS[0];
    render(html`<div class="fields">
      ${NUMBERS.map(([name, label, least, most, step, help]) => html`<div class="field slide" title=${help}>
        <label for=${`set-${name}`}>${label}</label>
        <input type="range" aria-label=${`${label}, slider`} min=${least} max=${most} step=${step} .value=${String(values[name])}
          @input=${(event) => this.number(name, event.target, least, most)}>
        <input id=${`set-${name}`} type="number" min=${least} max=${most} step=${step} .value=${String(values[name])}
          @change=${(event) => this.number(name, event.target, least, most)}></div>`)}
      <div class="field pair">
        <label>Length<input id="set-length" type="number" min="1" max="100000" .value=${String(values.max_tokens)}
          @change=${(event) => this.number("max_tokens", event.target, 1, 100_000)}></label>
        <label>Seed<span class="join"><input id="set-seed" type="number" min="0" step="1" .value=${String(values.seed)}
          @change=${(event) => this.number("seed", event.target, 0, Number.MAX_SAFE_INTEGER)}>
          <button type="button" title="Another seed" aria-label="Another seed" @click=${() => this.set("seed", anySeed())}>⚄</button></span></label>
      </div>
      <label class="field">Stop at, one a line<textarea id="set-stop" rows="1" spellcheck="false" placeholder="\\n is a line break"
        .value=${values.stop.map(escape).join("\n")}
        @change=${(event) => this.set("stop", event.target.value.split("\n").filter(Boolean).map(unescape))}></textarea></label>
      <label class="field">Must match<select id="set-kind" @change=${(event) => this.set("kind", event.target.value)}>
        ${KINDS.map(([name, label]) => html`<option value=${name} ?selected=${name === values.kind}>${label}</option>`)}</select></label>
      <label class="field" ?hidden=${values.kind === "none"}>What to match<textarea id="set-pattern" rows="3" spellcheck="false"
        placeholder=${kind[2]} .value=${values.pattern} @change=${(event) => this.set("pattern", event.target.value)}></textarea></label>
    </div>`, this.host);
  }
}
