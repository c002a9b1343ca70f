/** Puts the page together: models, tabs, colours, the key, and the view that a link has. */

import { askKeyWith, AWAY, hasKey, json } from "./api.js";
import { render } from "./lit-html.js";
import { decode, encodeTab, versioned } from "./link.js";
import { cards } from "./panels.js";
import { Write } from "./write.js";

const by = (id) => document.getElementById(id);
let models = [];
let hiding;

/** Show a sentence; a good one goes by itself. An empty one hides it. */
function say(sentence, good = false) {
  clearTimeout(hiding);
  const notice = by("notice");
  notice.hidden = !sentence;
  notice.textContent = sentence;
  notice.classList.toggle("good", good);
  if (good) hiding = setTimeout(() => { notice.hidden = true; }, 5_000);
}

askKeyWith((why) => new Promise((resolve) => {
  const dialog = by("ask"), field = by("key");
  by("ask-why").textContent = why;
  field.value = "";
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? field.value.trim() : null), { once: true });
  dialog.showModal();
  field.focus();
}));

const THEMES = [["", "as the system", "◐"], ["light", "light", "☀"], ["dark", "dark", "☾"]];

function paint(theme) {
  const [name, words, sign] = THEMES.find(([one]) => one === theme) ?? THEMES[0];
  document.documentElement.dataset.theme = name;
  by("theme").textContent = sign;
  by("theme").setAttribute("aria-label", `Colours: ${words}`);
  localStorage.setItem("unroll.theme", name);
  dispatchEvent(new Event("resize"));
}

const LAZY = { compare: "./compare.js", score: "./score.js" };
const made = {};

let write = null;

/** Put a tab's view into the address, if the tab is still open. */
async function address(name, state, bare) {
  const fragment = await encodeTab(name, state, bare);
  if (!by(name).hidden) history.replaceState(null, "", `#${fragment}`);
}

/** The name of a model that a link names with its version; says so where it is another now. */
function current(model) {
  const name = String(model).split("@")[0];
  if (!models.some((one) => one.id === name)) {
    say(`This server has no model ${name}; the link is shown with ${chosen()}.`);
    return chosen();
  }
  if (versioned(models, name) !== model) say(`The model ${name} is another now than when this link was made.`);
  return name;
}

/** A tab whose file is fetched when it is opened first; null where it cannot be. */
async function lazy(name) {
  try {
    const module = await import(LAZY[name]);
    made[name] ??= module.make(by(name), {
      models: () => models, chosen, say, current, named: (model) => versioned(models, model),
      address: (...views) => address(name, ...views),
    });
    return made[name];
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    say(AWAY);
    return null;
  }
}

/** Open a tab; state: what a link says of it. */
async function open(name, state) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const own = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(own));
    tab.tabIndex = own ? 0 : -1;
    by(tab.getAttribute("aria-controls")).hidden = !own;
  }
  if (name in LAZY) {
    const tab = await lazy(name);
    if (!tab) return;
    if (state) await tab.restore(state);
    else tab.opened();
  }
  if (name === "write") await write?.opened();
  if (name === "card") {
    await address("card", [], []);
    await showCards();
  }
}

async function showCards() {
  const known = {};
  render(cards(models, known), by("card"));
  try {
    for (const model of models) {
      const about = await json(`tokenizer_info?model=${encodeURIComponent(model.id)}`);
      known[model.id] = about.vocab_size ?? about.vocabulary_size;
    }
    render(cards(models, known), by("card"));
  } catch (error) {
    say(error.message);
  }
}

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const turn = (tab) => { say(""); open(tab.id.slice(4)); };
  all.forEach((tab, at) => {
    tab.addEventListener("click", () => turn(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(at + step + all.length) % all.length];
      next.focus();
      turn(next);
    });
  });
}

const chosen = () => by("model").value || undefined;

async function learnModels() {
  models = (await json("v1/models")).data;
  by("model").replaceChildren(...models.map((model) => new Option(model.id, model.id, model.default, model.default)));
  by("model").disabled = models.length < 2;
}

async function follow() {
  const fragment = location.hash.slice(1);
  if (!fragment || fragment === "paper") return;
  let view;
  try {
    view = await decode(fragment);
  } catch {
    say("This link is damaged or of another version of the page; ask for it once more.");
    return;
  }
  if (view.tab) {
    await open(view.tab, view.state);
    return;
  }
  if (by("write").hidden) await open("write");
  const name = view.texts[view.current].model.split("@")[0];
  if (models.some((model) => model.id === name)) by("model").value = name;
  await write.restore(view);
}

async function start() {
  paint(localStorage.getItem("unroll.theme") ?? "");
  by("theme").addEventListener("click", () => {
    const at = THEMES.findIndex(([name]) => name === document.documentElement.dataset.theme);
    paint(THEMES[(at + 1) % THEMES.length][0]);
  });
  if (matchMedia("(max-width: 999px)").matches) by("options").open = false;
  tabs();
  write = new Write(() => models, chosen, say);
  for (const kind of ["html", "svg", "png"]) {
    by(`as-${kind}`).addEventListener("click", async () => {
      by("as-html").closest("details").open = false;
      const found = await import("./export.js").catch(() => null);
      if (found) await found.save(write.node, kind, location.href, say);
      else say(AWAY);
    });
  }
  addEventListener("hashchange", follow);
  addEventListener("offline", () => say("The connection is gone; the page goes on once it is back."));
  document.documentElement.dataset.ready = "yes";
  try {
    await learnModels();
    if (hasKey()) document.querySelector("footer a").removeAttribute("href"); // its page would need the key, too
    await write.lens.offer();
    await follow();
  } catch (error) {
    say(error.message);
  }
}

start();
