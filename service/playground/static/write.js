/** The view that writes: begin, stop, go on, undo, branch, look at a character. */

import { render } from "./lit-html.js";
import { Lens } from "./lens.js";
import { encode, versioned } from "./link.js";
import { counted, here, isCharacter, spoken, tree } from "./panels.js";
import { Settings } from "./settings.js";
import { Story } from "./story.js";
import { Strip } from "./strip.js";
import { TextView } from "./text_view.js";

const by = (id) => document.getElementById(id);
const ENDS = { stop: "ended after ", stopped: "stopped after " };
const HEARD = 400; // milliseconds that a place is looked at before it is said

export class Write {
  /** models: a function that gives those served. chosen: a function that gives the name of the one chosen. say: shows a sentence. */
  constructor(models, chosen, say) {
    Object.assign(this, { models, chosen, say, roots: [], node: null, running: null, began: 0 });
    this.settings = new Settings(by("settings"));
    this.view = new TextView(by("paper"), (at) => this._looked(at));
    this.strip = new Strip(by("strip"), (at) => this.view.look(at, true));
    this.lens = new Lens(by("lens"), this.view, () => this.node, say, () => this._link());
    by("begin").addEventListener("submit", (event) => { event.preventDefault(); this.begin(); });
    by("stop").addEventListener("click", () => this.stop());
    by("more").addEventListener("click", () => this.more());
    by("undo").addEventListener("click", () => this.undo());
    by("copy").addEventListener("click", () => this.copy());
    by("share").addEventListener("click", () => this.share());
    by("paper").addEventListener("keydown", (event) => this._key(event));
    by("paper").addEventListener("click", (event) => {
      this.view.look(this.view.locate(event.clientX, event.clientY));
      this._uncover();
    });
    document.addEventListener("keydown", (event) => {
      if (by("write").hidden || by("ask").open) return;
      if (event.key === "Escape") this.running ? this.stop() : this.view.look(-1);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.begin(); }
    });
    addEventListener("online", () => { if (this.node?.problem && !this.node.problem.status) this.more(); });
    this.draw();
  }

  /** Begin a new text from the prompt. */
  async begin() {
    const field = document.activeElement;
    if (field?.closest("#settings")) { // what is typed there counts once the field is left
      field.blur();
      field.focus();
    }
    const node = new Story(this.chosen());
    node.typed(by("prompt").value);
    this.roots.push(node);
    await this._run(node, this._part());
  }

  _part(seed = this.settings.values.seed) {
    const s = { ...this.settings.values, seed };
    return { n: s.max_tokens, s };
  }

  /** Go on where the text ends; after an error, with what is missing of it. */
  async more() {
    const { node } = this;
    if (!node || this.running) return;
    const last = node.parts.at(-1);
    if (node.problem && last && "s" in last && last.c < last.n) {
      await this._run(node, { n: last.n, s: last.s }, last);
      return;
    }
    const on = new Story(this.chosen(), node, node.chars.length, "on");
    await this._run(on, this._part((node.lastSettings?.seed ?? this.settings.values.seed) + 1));
  }

  /** Put another character at a place, and let the model go on from it. */
  async branch(at, char) {
    const { node } = this;
    if (!node || !isCharacter(char) || node.chars[at] === char) return;
    this.stop();
    await this.ended;
    const other = new Story(node.model, node, at, char);
    other.typed(char);
    const known = node.alternatives[at]?.find(([one]) => one === char);
    if (known) {
      other.bits[at] = -Math.log2(known[1]);
      other.alternatives[at] = node.alternatives[at];
    }
    const seed = node.lastSettings?.seed ?? this.settings.values.seed;
    await this._run(other, this._part(seed));
  }

  stop() {
    this.running?.abort();
  }

  undo() {
    if (!this.node) return;
    this.stop();
    const to = this.node.parent ?? this.roots[this.roots.indexOf(this.node) - 1];
    if (to) this.select(to);
  }

  select(node) {
    this.stop();
    this.node = node;
    this.view.show(node);
    this.strip.show(node);
    this.draw();
    this._link();
    if (node.scored === undefined && !node.problem) this._score(node);
    else this.lens.changed();
  }

  async _run(node, part, resumed = null) {
    this.stop();
    await this.ended;
    const running = this.running = new AbortController();
    this.say("");
    if (this.node !== node) {
      this.node = node;
      this.view.show(node);
      this.strip.show(node);
    }
    this.began = performance.now();
    this.draw();
    this.ended = this._stream(node, part, running, resumed);
    await this.ended;
  }

  async _stream(node, part, running, resumed) {
    try {
      await node.write(part, running.signal, () => this._grew(node), resumed);
    } catch (error) {
      this._failed(error);
    } finally {
      node.seconds = (performance.now() - this.began) / 1000;
      if (this.running === running) this.running = null;
      this.scoring = !node.problem;
      this.draw();
    }
    await this._link();
    if (!node.problem) await this._score(node);
  }

  async _score(node) {
    this.scoring = true;
    try {
      node.scored = await node.score();
      if (node.scored && this.node === node) { this.view.recolour(); this.strip.show(node); }
    } catch (error) {
      this._failed(error);
    }
    this.scoring = false;
    this.draw();
    if (this.node === node) await this.lens.changed();
  }

  _failed(error) {
    if (error.name !== "Problem" && !("status" in error)) console.error(error);
    const resume = this.node?.problem && this.node.chars.length ? " Go on takes it up where it broke off." : "";
    this.say(error.message + resume);
  }

  /** Write the texts of a link: first those that lead to the one shown, then the other branches. */
  async restore({ texts, current, seen }) {
    this.stop();
    const restoring = this.restoring = { nodes: texts.map(() => null) };
    const path = [];
    for (let at = current; at >= 0; at = texts[at].parent) path.unshift(at);
    const settings = path.flatMap((at) => texts[at].parts).findLast((part) => "s" in part)?.s;
    if (settings) this.settings.take(settings);
    const first = texts[path[0]].parts[0];
    by("prompt").value = first && "t" in first ? first.t : "";
    const others = [...texts.keys()].filter((at) => !path.includes(at));
    for (const at of [...path, ...others]) {
      const shown = path.includes(at);
      if (this.restoring !== restoring || !await this._again(texts[at], at, restoring.nodes, shown)) break;
      if (at === current) await this._seen(seen);
    }
    if (this.restoring === restoring) this.restoring = null;
    this.draw();
    await this._link();
  }

  /** Write one text of a link again; false where that fails. */
  async _again({ model, parent, at, why, parts }, place, nodes, shown) {
    const from = nodes[parent] ?? null;
    if (parent >= 0 && (!from || from.chars.length < at)) return false;
    const node = nodes[place] = new Story(model, from, at, why);
    if (!from) this.roots.push(node);
    if (shown) {
      this.node = node;
      this.view.show(node);
      this.strip.show(node);
    }
    const running = new AbortController();
    if (shown) this.running = running;
    const began = performance.now();
    this.draw();
    try {
      for (const part of parts) {
        if ("t" in part) node.typed(part.t);
        else if (part.c) await node.write(part, running.signal, () => this._grew(node));
        this._grew(node);
        if (node.finish === "stopped") return false;
      }
    } catch (error) {
      this._failed(error);
      return false;
    } finally {
      node.seconds = (performance.now() - began) / 1000;
      if (this.running === running) this.running = null;
      this.draw();
    }
    return true;
  }

  /** Look where a link looks. */
  async _seen([at, kind, layer, part, unit]) {
    await this._score(this.node);
    if (Number.isInteger(at) && at >= 0 && at < this.node.chars.length) {
      while (!this.view.settled) await new Promise(requestAnimationFrame);
      this.view.look(at, true);
    }
    await this.lens.restore(kind, { layer, part, unit });
  }

  _grew(node) {
    if (this.node !== node) return;
    this.view.grew();
    this.strip.later();
    this._facts();
  }

  /** The tab is opened: the address is that of its text again. */
  async opened() {
    if (this.node) await this._link();
    else history.replaceState(null, "", location.pathname + location.search);
  }

  /** Put the view into the address; false where it is too long for one. */
  async _link(asked = false) {
    if (!this.node || (this.restoring && !asked) || by("write").hidden) return true;
    const link = await encode(this.roots, this.node, (name) => versioned(this.models(), name), this._seeing());
    this.whole = link.whole;
    if (by("write").hidden) return true; // another tab was opened meanwhile, and the address is its own
    history.replaceState(null, "", link.fragment === null ? location.pathname + location.search : `#${link.fragment}`);
    return link.fragment !== null;
  }

  _seeing() {
    const { kind, unit } = this.lens;
    return kind === "unit" && unit ? [this.view.at, kind, unit.layer, unit.part, unit.unit] : [this.view.at, kind];
  }

  async copy() {
    await this._copied(this.node.text, "The text is copied.");
  }

  async share() {
    if (!await this._link(true)) {
      this.say("What was typed is too long for a link; Export keeps the text and its colours.");
      return;
    }
    const branches = this.whole ? "" : " The other branches are too many for it.";
    await this._copied(location.href, `The link is copied: everyone who opens it sees the same characters.${branches}`);
  }

  async _copied(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      this.say(done, true);
    } catch {
      this.say("The browser allows no copying here; the link is in the address bar, and the text can be selected.");
    }
  }

  _looked(at) {
    if (!this.lens) return;
    this.strip.look(at);
    this.lens.looked(at);
    render(here(this.node, at, (place, char) => this.branch(place, char)), by("here"));
    clearTimeout(this.linking);
    if (at >= 0 && !this.running) this.linking = setTimeout(() => this._link(), HEARD);
    clearTimeout(this.hearing);
    if (at >= 0 && document.activeElement === by("paper")) {
      this.hearing = setTimeout(() => { by("said").textContent = spoken(this.node, at); }, HEARD);
    }
  }

  _key(event) {
    const { view, node } = this;
    if (!node) return;
    const last = view.done - 1, at = view.at;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); this.undo(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowRight: () => Math.min(last, at + 1), ArrowLeft: () => Math.max(0, at < 0 ? last : at - 1),
      ArrowDown: () => (at < 0 ? 0 : view.beside(at, 1)), ArrowUp: () => (at < 0 ? last : view.beside(at, -1)),
      Home: () => 0, End: () => last,
    };
    if (event.key in moves && last >= 0) {
      event.preventDefault();
      view.look(moves[event.key](), true);
    } else if (/^[1-8]$/.test(event.key) && at >= 0) {
      const found = node.alternatives[at]?.[event.key - 1];
      if (found) this.branch(at, found[0]);
    } else if (event.key === "g" || event.key === "G") {
      this.more();
    }
  }

  draw() {
    const { node } = this, on = Boolean(this.running);
    by("stop").disabled = !on;
    by("more").disabled = on || !node;
    by("undo").disabled = !node || !(node.parent || this.roots.indexOf(node) > 0);
    for (const id of ["copy", "share"]) by(id).disabled = !node;
    by("welcome").hidden = Boolean(node);
    by("paper").setAttribute("aria-busy", String(on));
    by("paper").dataset.known = on || this.scoring ? "" : "yes";
    render(tree(this.roots, node, (one) => this.select(one)), by("tree"));
    if (this.drawn !== node) this._showBranch();
    this.drawn = node;
    this._looked(this.view.at);
    this._facts();
  }

  /** On a narrow screen what is here stands over the page: scroll until the character is seen above it. */
  _uncover() {
    const box = document.querySelector("#write .here"), seen = this.view.rect(this.view.at);
    if (seen && getComputedStyle(box).position === "sticky") scrollBy(0, Math.max(0, seen.bottom + 12 - box.getBoundingClientRect().top));
  }

  /** Scroll the list of branches, and not the page, to the one that is shown. */
  _showBranch() {
    const box = by("tree"), row = box.querySelector("[aria-current]")?.getBoundingClientRect();
    if (!row) return;
    const { top, bottom } = box.getBoundingClientRect();
    box.scrollTop += Math.min(0, row.top - top) + Math.max(0, row.bottom - bottom);
  }

  _facts() {
    const { node } = this;
    if (!node) { by("facts").textContent = ""; return; }
    const mean = node.mean(), made = node.made.reduce((sum, one) => sum + one, 0);
    const seed = node.lastSettings?.seed;
    const parts = [
      `${counted(node.chars.length)}${made < node.chars.length ? `, ${made.toLocaleString("en")} written` : ""}`,
      Number.isNaN(mean) ? "" : `${mean.toFixed(2)} bits per character`,
      seed === undefined ? "" : `seed ${seed}`,
      this.running ? "writing…" : node.problem ? "broken off" : node.seconds ? `${ENDS[node.finish] ?? ""}${node.seconds.toFixed(2)} s` : "",
    ];
    by("facts").textContent = parts.filter(Boolean).join(" · ");
    by("strip").setAttribute("aria-label", `Surprise and entropy along the text${Number.isNaN(mean) ? "" : `: ${mean.toFixed(2)} bits per character on average`}`);
  }
}
