/** Puts the page together: models, tabs, colours, the key, and the view that a link has. */

import { askKeyWith, json } from "./api.js";
import { render } from "./lit-html.js";
import { decode } from "./link.js";
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

async function open(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const own = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(own));
    tab.tabIndex = own ? 0 : -1;
    by(tab.getAttribute("aria-controls")).hidden = !own;
  }
  if (name in LAZY) {
    made[name] ??= import(LAZY[name]).then((module) => module.make(by(name), { models: () => models, chosen, say }));
    (await made[name]).opened?.();
  }
  if (name === "card") await showCards();
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
  all.forEach((tab, at) => {
    tab.addEventListener("click", () => open(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(at + step + all.length) % all.length];
      next.focus();
      open(next.id.slice(4));
    });
  });
}

const chosen = () => by("model").value || undefined;

async function learnModels() {
  models = (await json("v1/models")).data;
  by("model").replaceChildren(...models.map((model) => new Option(model.id, model.id, model.default, model.default)));
  by("model").disabled = models.length < 2;
}

async function follow(write) {
  const fragment = location.hash.slice(1);
  if (!fragment || fragment === "paper") return;
  let view;
  try {
    view = await decode(fragment);
  } catch {
    say("This link is damaged or of another version of the page; ask for it once more.");
    return;
  }
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
  const write = new Write(() => models, chosen, say);
  for (const kind of ["html", "svg", "png"]) {
    by(`as-${kind}`).addEventListener("click", async () => {
      by("as-html").closest("details").open = false;
      const { save } = await import("./export.js");
      await save(write.node, kind, location.href, say);
    });
  }
  addEventListener("hashchange", () => follow(write));
  addEventListener("offline", () => say("The connection is gone; the page goes on once it is back."));
  document.documentElement.dataset.ready = "yes";
  try {
    await learnModels();
    await write.lens.offer();
    await follow(write);
  } catch (error) {
    say(error.message);
  }
}

start();
