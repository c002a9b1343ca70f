/** What the colours mean: surprise, the value of a unit of the state, or how far a character of the past is still felt. */

import { exists, json } from "./api.js";
import { html, nothing, render } from "./lit-html.js";
import { counted } from "./panels.js";
import { levelOf, surprise } from "./text_view.js";

const FEATURES = {
  quotes: "inside quotation marks", brackets: "inside brackets", line_position: "place in the line", spaces: "spaces",
  capital_letters: "capital letters", line_breaks: "line breaks", digits: "digits", punctuation: "punctuation",
  word_position: "place in the word",
};
const WINDOW = 1_000; // later characters that are compared
const PAUSE = 250; // milliseconds that a character is looked at before its influence is asked for
const STRONG = [0.15, 0.45, 0.8]; // shares of the greatest value at which the next colour begins
const FELT = 12; // what a bit of divergence weighs: 0.04 bits are the first colour, 0.5 the last

const sized = (value, greatest) => STRONG.filter((share) => Math.abs(value) >= share * greatest).length;

export class Lens {
  /** host: where the fields stand. text: gives the Story that is shown. view: where it is. chosen: called at a choice. */
  constructor(host, view, text, say, chosen) {
    Object.assign(this, { host, view, text, say, chosen, kind: "surprise", unit: null, found: [], searched: null, values: [], greatest: 1, asked: 0 });
    this.network = { layers: 1, width: 1, parts: ["hidden"] };
  }

  /** Offer it where the server has the routes. */
  async offer() {
    if (await exists("v1/inspect")) this.draw();
  }

  async choose(kind) {
    this.kind = kind;
    this.values = [];
    this.view.paint = surprise;
    if (kind === "unit") await this._search();
    else if (kind === "influence") this.looked(this.view.at);
    this.view.recolour();
    this.draw();
    this.host.dataset.kind = kind;
    this.chosen();
  }

  /** Colour as a link says. */
  async restore(kind, unit) {
    if (!["unit", "influence"].includes(kind) || !this.host.childElementCount) return;
    if (kind === "unit" && Number.isInteger(unit.layer) && Number.isInteger(unit.unit)) this.unit = unit;
    await this.choose(kind);
  }

  /** The text is another, or has more characters. */
  async changed() {
    if (this.kind === "surprise") return;
    this.values = [];
    this.view.paint = surprise;
    if (this.kind === "unit") await this._search();
    this.view.recolour();
    this.draw();
  }

  async _ask(route, body) {
    const story = this.text(), asked = ++this.asked;
    if (!story?.chars.length) return null;
    try {
      const answer = await json(route, { model: story.model, text: story.text, ...body });
      return asked === this.asked && story === this.text() ? answer : null;
    } catch (error) {
      this.say(error.message);
      return null;
    }
  }

  /** Find the units that respond to something in the text at hand, and show the best of them. */
  async _search() {
    const story = this.text();
    const answer = await this._ask("v1/inspect/units", { most: 2 });
    if (!answer) return;
    if (this.searched && this.searched !== story.model) this.unit = null; // another model's units mean other things
    this.searched = story.model;
    this.network = answer.network;
    this.found = answer.features.flatMap(({ feature, units }) => units.map((unit) => ({ ...unit, feature })));
    const best = this.found.toSorted((a, b) => Math.abs(b.correlation) - Math.abs(a.correlation))[0];
    this.unit = this._again() ?? this.unit ?? best ?? { layer: 0, part: "hidden", unit: 0 };
    await this._read();
  }

  /** The unit that is shown, as it was found in this text. */
  _again() {
    const same = (one) => ["layer", "part", "unit"].every((name) => one[name] === this.unit?.[name]);
    return this.found.find((one) => same(one) && one.feature === this.unit.feature) ?? this.found.find(same);
  }

  async _read() {
    const { layer, part, unit } = this.unit;
    const answer = await this._ask("v1/inspect", { top_logprobs: 0, units: [{ layer, part, unit }] });
    if (!answer) return;
    this.network = answer.network;
    this.values = answer.details.map((one) => one.units[0]);
    this.greatest = Math.max(1e-6, ...answer.units.map((one) => Math.max(Math.abs(one.least ?? 0), Math.abs(one.greatest ?? 0))));
    this.view.paint = (_, at) => {
      const value = this.values[at] ?? 0, size = sized(value, this.greatest);
      return size ? `${value < 0 ? "minus" : "plus"}${size}` : "l0";
    };
  }

  async set(unit) {
    this.unit = unit;
    await this._read();
    this.view.recolour();
    this.draw();
    this.chosen();
  }

  /** Another character is looked at. */
  looked(at) {
    if (this.kind === "unit") this.draw();
    if (this.kind !== "influence") return;
    clearTimeout(this.pausing);
    this.pausing = setTimeout(() => this._felt(at), PAUSE);
  }

  async _felt(at) {
    if (at < 0) return;
    const answer = await this._ask("v1/inspect/influence", { position: at, replacement: null, window: WINDOW });
    if (!answer || this.kind !== "influence") return;
    this.felt = answer.felt;
    this.values = answer.details.map((one) => one.divergence_bits);
    this.view.paint = (_, place) => `l${place > at ? levelOf((this.values[place - at - 1] ?? 0) * FELT) : 0}`;
    this.view.recolour();
    this.draw();
  }

  _words() {
    if (this.kind === "influence") {
      if (!this.values.length) return "Step to a character: what would be otherwise without it?";
      return this.felt ? `Without it, predictions differ for ${counted(this.felt)}.` : "Without it, nothing would be otherwise.";
    }
    const value = this.values[this.view.at];
    return value === undefined ? `from −${this.greatest.toFixed(2)} to ${this.greatest.toFixed(2)}` : `${value.toFixed(3)} here`;
  }

  _fields() {
    const { unit, network } = this;
    const number = (name, most) => (event) => {
      const value = Math.min(most, Math.max(0, Math.trunc(event.target.valueAsNumber || 0)));
      this.set({ ...unit, [name]: value, feature: undefined });
    };
    return html`<select aria-label="Units found in this text" id="found" @change=${(event) => this.set(this.found[event.target.value])}>
        <option ?selected=${!unit.feature} disabled>most responsive to…</option>
        ${this.found.map((one, at) => html`<option value=${at} ?selected=${one === unit}>${FEATURES[one.feature] ?? one.feature} (${one.correlation.toFixed(2)})</option>`)}
      </select>
      <label>Layer <input type="number" id="layer" min="0" max=${network.layers - 1} .value=${String(unit.layer)} @change=${number("layer", network.layers - 1)}></label>
      <label>Part <select id="part" @change=${(event) => this.set({ ...unit, part: event.target.value, feature: undefined })}>
        ${network.parts.map((part) => html`<option ?selected=${part === unit.part}>${part}</option>`)}</select></label>
      <label>Unit <input type="number" id="unit" min="0" max=${network.width - 1} .value=${String(unit.unit)} @change=${number("unit", network.width - 1)}></label>`;
  }

  draw() {
    render(html`<label>Colour by <select id="lens-kind" @change=${(event) => this.choose(event.target.value)}>
        <option value="surprise" ?selected=${this.kind === "surprise"}>surprise</option>
        <option value="unit" ?selected=${this.kind === "unit"}>a unit of the state</option>
        <option value="influence" ?selected=${this.kind === "influence"}>what a character changes</option></select></label>
      ${this.kind === "unit" && this.unit ? this._fields() : nothing}`, this.host);
    document.getElementById("lens-words").textContent = this.kind === "surprise" ? "" : this._words();
  }
}
