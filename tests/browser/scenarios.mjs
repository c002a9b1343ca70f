/** What people do with the page, one function each: of a browser and the address of a server. */

import assert from "node:assert/strict";
import { close, complete, launch, open, PHONE, set, settled, text, write } from "./harness.mjs";
import { passing } from "./proxy.mjs";

const ROMEO = { temperature: 0.8, seed: 4, length: 200 };
const KEY = process.env.KEY;
const SAMPLING = { temperature: 0.8, top_p: 1, top_k: 0, min_p: 0 };

export async function writes_and_goes_on(browser, url) {
  const page = await open(browser, url, { options: { permissions: ["clipboard-read", "clipboard-write"] } });
  await write(page, "ROMEO:\n", ROMEO);
  const first = "ROMEO:\n" + await complete(url, { prompt: "ROMEO:\n", max_tokens: 200, seed: 4, ...SAMPLING });
  assert.equal(await text(page), first);
  assert.deepEqual(await page.evaluate(() => window.shifts), []);
  await page.click("#copy");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), first);
  await page.click("#more");
  await settled(page);
  assert.equal(await text(page), first + await complete(url, { prompt: first, max_tokens: 200, seed: 5, ...SAMPLING }));
  await page.click("#undo");
  assert.equal((await text(page)), first);
  await set(page, { stop: "\\n", length: 300 });
  await page.fill("#prompt", "JULIET:\n");
  await page.press("#prompt", "Control+Enter");
  await settled(page);
  const stopped = await complete(url, { prompt: "JULIET:\n", max_tokens: 300, seed: 4, stop: ["\n"], ...SAMPLING });
  assert.equal(await text(page), `JULIET:\n${stopped}`);
  await close(page);
}

export async function keeps_to_a_constraint(browser, url) {
  const page = await open(browser, url);
  await page.selectOption("#set-kind", "regex");
  await set(page, { pattern: "[A-Z]{4} [0-9]{3}" });
  await write(page, "", { length: 50, seed: 1 });
  assert.match(await text(page), /^[A-Z]{4} [0-9]{3}$/);
  await page.selectOption("#set-kind", "json");
  await set(page, { pattern: "{" });
  await page.click("#go");
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.textContent("#notice"), /The schema is not JSON; .*\./);
  await close(page);
}

export async function branches_at_an_alternative(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\n", ROMEO);
  const first = await text(page);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 30; step++) await page.keyboard.press("ArrowRight");
  assert.equal(await page.textContent(".spot .glyph"), { " ": "␣", "\n": "↵" }[first[30]] ?? first[30]);
  const button = page.locator(".choices button:not(:disabled)").first();
  const sign = await button.locator(".glyph").textContent();
  const char = { "␣": " ", "↵": "\n" }[sign] ?? sign;
  await button.click();
  await settled(page);
  const begun = first.slice(0, 30) + char;
  assert.equal(await text(page), begun + await complete(url, { prompt: begun, max_tokens: 200, seed: 4, ...SAMPLING }));
  assert.equal(await page.locator(".tree button").count(), 2);
  await page.locator(".tree button").first().click();
  assert.equal(await text(page), first);
  await page.focus("#paper");
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("2"); // the second likeliest, by its key
  await settled(page);
  assert.ok(await page.locator(".tree button").count() >= 2);
  await close(page);
}

export async function colours_are_those_of_the_score(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\nÄ", ROMEO);
  const shown = await page.evaluate(() => [...document.querySelectorAll("#paper .line > span")].flatMap(
    (run) => Array.from(run.textContent, (char) => [char, Number(/l(\d)/.exec(run.className)[1])]),
  ));
  const answer = await fetch(new URL("v1/score", url), {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ texts: [shown.map(([char]) => char).join("")], details: true }),
  });
  const { details } = (await answer.json()).results[0];
  const level = (bits) => [0.5, 1, 2, 3, 4.5, 6].filter((step) => bits >= step).length;
  assert.deepEqual(shown, details.map((one) => [one.character, level(one.bits)]));
  assert.ok(new Set(shown.map(([, one]) => one)).size > 5);
  assert.match(await page.textContent("#facts"), new RegExp(`${(details.reduce((sum, one) => sum + one.bits, 0) / details.length).toFixed(2)} bits per character`));
  await close(page);
}

export async function colours_by_a_unit_and_by_influence(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\n", ROMEO);
  const post = async (path, body) => (await fetch(new URL(path, url), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  })).json();
  const classes = () => page.evaluate(() => [...document.querySelectorAll("#paper .line > span")].flatMap(
    (run) => Array.from(run.textContent, () => run.className.split(" ")[0]),
  ));
  const shown = await text(page);
  await page.selectOption("#lens-kind", "unit");
  await page.waitForSelector("#lens[data-kind=unit] #unit");
  const { features } = await post("v1/inspect/units", { text: shown, most: 2 });
  const best = features.flatMap((one) => one.units).sort((a, b) => Math.abs(b.correlation) - Math.abs(a.correlation))[0];
  assert.equal(Number(await page.inputValue("#unit")), best.unit);
  assert.equal(Number(await page.inputValue("#layer")), best.layer);
  const unit = { layer: best.layer, part: best.part, unit: best.unit };
  const { details, units } = await post("v1/inspect", { text: shown, top_logprobs: 0, units: [unit] });
  const greatest = Math.max(Math.abs(units[0].least), Math.abs(units[0].greatest));
  await page.waitForTimeout(500); // colours change a few lines a frame
  assert.deepEqual(await classes(), details.map(({ units: [value] }) => {
    const size = [0.15, 0.45, 0.8].filter((share) => Math.abs(value) >= share * greatest).length;
    return size ? `${value < 0 ? "minus" : "plus"}${size}` : "l0";
  }));
  for (const width of [1000, 1100, 1280, 1600]) { // all its fields fit, on however many lines
    await page.setViewportSize({ width, height: 800 });
    const [wide, room] = await page.locator("#lens").evaluate((lens) => [lens.scrollWidth, lens.clientWidth]);
    assert.ok(wide <= room, `${wide} in ${room} at ${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.selectOption("#lens-kind", "influence");
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 20; step++) await page.keyboard.press("ArrowRight");
  const { felt } = await post("v1/inspect/influence", { text: shown, position: 20, replacement: null, window: 1000 });
  await page.waitForFunction((count) => document.getElementById("lens-words").textContent.includes(` ${count} characters`), felt);
  await page.waitForTimeout(500);
  assert.ok((await classes()).slice(0, 21).every((one) => one === "l0"));
  assert.ok((await classes()).slice(21).some((one) => one !== "l0"));
  await page.selectOption("#lens-kind", "surprise");
  await page.waitForTimeout(500);
  assert.ok(new Set((await classes()).slice(0, 21)).size > 2);
  await close(page);
}

export async function a_link_shows_the_same_elsewhere(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\n", ROMEO);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 60; step++) await page.keyboard.press("ArrowRight");
  await page.locator(".choices button:not(:disabled)").nth(1).click();
  await settled(page);
  await page.click("#more");
  await settled(page);
  const shown = await text(page), link = page.url();
  assert.equal(Array.from(shown).length, 61 + 200 + 200);
  assert.ok(link.length < 2_100, link.length);
  const another = await launch();
  const other = await open(another, link);
  await settled(other);
  assert.equal(await text(other), shown);
  assert.equal(await other.inputValue("#prompt"), "ROMEO:\n");
  assert.equal(await other.locator("#paper .line").count(), await page.locator("#paper .line").count());
  await other.waitForFunction(() => document.querySelectorAll(".tree button").length === 3);
  await other.waitForFunction((url) => location.href === url, link); // and it is the same view, all of it
  for (const at of [0, 1, 2]) { // the branches are there, too, each to the letter
    for (const one of [page, other]) { await one.locator(".tree button").nth(at).click(); await settled(one); }
    assert.equal(await text(other), await text(page));
  }
  await close(other);
  const damaged = await open(another, `${link.slice(0, -9)}`);
  await damaged.waitForSelector("#notice:not([hidden])");
  assert.match(await damaged.textContent("#notice"), /This link is damaged/);
  await close(damaged);
  await another.close();
  await close(page);
}

export async function a_link_looks_where_one_looked(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\n", ROMEO);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 33; step++) await page.keyboard.press("ArrowRight");
  await page.selectOption("#lens-kind", "unit");
  await page.waitForSelector("#lens[data-kind=unit] #unit");
  await page.fill("#unit", "17");
  await page.press("#unit", "Tab");
  await page.waitForTimeout(800); // the address follows a moment later
  const other = await open(browser, page.url());
  await other.waitForSelector("#lens[data-kind=unit] #unit");
  assert.equal(await other.inputValue("#unit"), "17");
  assert.equal(await other.textContent(".spot"), await page.textContent(".spot"));
  await close(other);
  await close(page);
}

export async function a_link_is_never_longer_than_it_says(browser, url) {
  const page = await open(browser, url, { options: { permissions: ["clipboard-read", "clipboard-write"] } });
  let chance = 1;
  const noise = (size) => Array.from({ length: size }, () => {
    chance = Math.imul(chance, 1103515245) + 12345 >>> 0;
    return String.fromCharCode(33 + (chance >>> 16) % 94);
  }).join("");
  await write(page, noise(2_500), { ...ROMEO, length: 5 });
  await write(page, "ROMEO:\n", ROMEO);
  assert.ok(page.url().length < 500, "of two texts the one that is shown"); // with the other it would be too long
  await page.click("#share");
  await page.waitForFunction(() => /The other branches are too many/.test(document.getElementById("notice").textContent));
  await write(page, noise(30_000), { ...ROMEO, length: 5 });
  await page.click("#share");
  await page.waitForFunction(() => /too long for a link; Export/.test(document.getElementById("notice").textContent));
  assert.equal(new URL(page.url()).hash, "");
  await close(page);
}

export async function a_key_is_asked_for_once(browser, url) {
  const page = await open(browser, url, { models: false });
  await page.waitForSelector("#ask[open]");
  assert.equal(await page.textContent("#ask-why"), "This server needs a key.");
  await page.fill("#key", "wrong");
  await page.press("#key", "Enter");
  await page.waitForFunction(() => document.getElementById("ask").open
    && document.getElementById("ask-why").textContent.includes("does not know"));
  await page.fill("#key", KEY);
  await page.press("#key", "Enter");
  await page.waitForFunction(() => document.getElementById("model").length);
  await write(page, "a", ROMEO);
  assert.equal((await text(page)).length, 201);
  assert.equal(await page.getAttribute("footer a", "href"), null); // the pages of the API need the key, too
  await page.reload();
  await page.waitForFunction(() => document.getElementById("model").length);
  await settled(page);
  assert.equal(await page.locator("#ask[open]").count(), 0);
  assert.ok(!page.url().includes(KEY));
  assert.ok(!await page.evaluate((key) => JSON.stringify({ ...localStorage }).includes(key), KEY));
  const other = await open(browser, url, { models: false });
  await other.waitForSelector("#ask[open]");
  await other.click("#ask button[value=no]");
  await other.waitForSelector("#notice:not([hidden])");
  assert.match(await other.textContent("#notice"), /needs a key/);
  await close(other);
  await close(page);
}

export async function an_error_in_the_middle_is_a_sentence(browser, url) {
  const page = await open(browser, url);
  await set(page, { length: 5_000 });
  await page.click("#go");
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.textContent("#notice"), /^[A-Z].+\. Go on takes it up where it broke off\.$/);
  await page.waitForFunction(() => document.getElementById("facts").textContent.includes("broken off"));
  assert.ok((await text(page)).length > 20);
  assert.ok(await page.isEnabled("#more"));
  await close(page);
}

export async function stop_keeps_what_came(browser, url) {
  const page = await open(browser, url);
  await set(page, { length: 5_000, seed: 4 });
  await page.click("#go");
  await page.waitForFunction(() => document.querySelector("#paper .text").textContent.length > 50);
  await page.keyboard.press("Escape");
  await settled(page);
  const kept = await text(page);
  assert.ok(kept.length > 50 && kept.length < 5_000);
  const whole = await complete(url, { prompt: "", max_tokens: Array.from(kept).length, seed: 4, ...SAMPLING });
  assert.equal(kept, whole);
  const other = await open(browser, page.url());
  await settled(other);
  assert.equal(await text(other), kept);
  await close(other);
  await close(page);
}

export async function the_connection_breaks_and_comes_back(browser, url) {
  const proxy = await passing(url);
  const page = await open(browser, proxy.url);
  await set(page, { length: 600, seed: 4 });
  await page.click("#go");
  await page.waitForFunction(() => document.querySelector("#paper .text").textContent.length > 50);
  await page.context().setOffline(true);
  proxy.cut();
  await page.waitForFunction(() => /The connection .*\./.test(document.getElementById("notice").textContent)
    && document.getElementById("stop").disabled);
  const kept = await text(page);
  assert.ok(kept.length >= 50 && kept.length < 600);
  await page.context().setOffline(false); // and the page goes on by itself
  await page.waitForFunction(() => document.querySelector("#paper .text").textContent.length >= 600, null, { timeout: 60_000 });
  await settled(page);
  assert.equal(await text(page), await complete(url, { prompt: "", max_tokens: 600, seed: 4, ...SAMPLING }));
  assert.ok((await text(page)).startsWith(kept));
  await close(page);
  proxy.close();
}

export async function a_tab_opens_once_the_connection_is_back(browser, url) {
  const page = await open(browser, url);
  for (const [tab, there] of [["score", "#pasted"], ["compare", "#prompt-0"]]) {
    await page.context().setOffline(true);
    await page.click(`#tab-${tab}`);
    await page.waitForFunction(() => /cannot be reached\. .*\./.test(document.getElementById("notice").textContent));
    await page.context().setOffline(false);
    await page.click(`#tab-${tab}`);
    await page.waitForSelector(there);
    assert.equal(await page.isVisible("#notice"), false);
  }
  await close(page);
}

/** Hold a PNG to what a text has: its paper, ink, and the colours of surprise. */
async function draws(page, path) {
  const { readFileSync } = await import("node:fs");
  const [width, height, colours] = await page.evaluate(async (coded) => {
    const bytes = Uint8Array.from(atob(coded), (char) => char.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const pen = new OffscreenCanvas(image.width, image.height).getContext("2d");
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, image.width, image.height);
    const found = {};
    for (let at = 0; at < data.length; at += 4) {
      const colour = `${data[at]},${data[at + 1]},${data[at + 2]}`;
      found[colour] = (found[colour] ?? 0) + 1;
    }
    return [image.width, image.height, found];
  }, readFileSync(path).toString("base64"));
  assert.ok(width > 1_000 && height > 100, `${width} by ${height}`);
  const [[, paper], ...others] = Object.entries(colours).sort((a, b) => b[1] - a[1]);
  assert.ok(paper > 0.5 * width * height && paper < 0.99 * width * height, "paper, and something on it");
  assert.ok(others.filter(([, count]) => count > 200).length >= 5, "ink and several colours of surprise");
}

/** How many pixels of a chart have the colour of bars, and how many that of the line. */
const inked = (page, selector) => page.locator(selector).evaluate((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  return ["--bar", "--curve"].map((name) => {
    probe.fillStyle = getComputedStyle(canvas).getPropertyValue(name);
    probe.fillRect(0, 0, 1, 1);
    const own = probe.getImageData(0, 0, 1, 1).data;
    let count = 0;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] > 200 && [0, 1, 2].every((each) => Math.abs(data[at + each] - own[each]) < 24)) count++;
    }
    return count;
  });
});

export async function the_chart_shows_surprise_and_entropy(browser, url) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, url, { options: { colorScheme } });
    assert.deepEqual(await inked(page, "#strip"), [0, 0]);
    await write(page, "ROMEO:\n", ROMEO);
    await page.waitForTimeout(400); // the chart draws a moment later
    const [bars, line] = await inked(page, "#strip");
    // A bar of b bits is b/8 of the height: of all the mean, less the gaps and what the line covers.
    const mean = Number(/([\d.]+) bits per character/.exec(await page.textContent("#facts"))[1]);
    const area = await page.locator("#strip").evaluate((canvas) => canvas.height * canvas.width);
    assert.ok(bars > 0.5 * area * mean / 8 && bars < 1.05 * area * mean / 8, `${bars} of ${area * mean / 8}`);
    assert.ok(line > 300, `${line} pixels of entropy`);
    const box = await page.locator("#strip").boundingBox();
    await page.mouse.click(box.x + (2.5 * box.width) / 207, box.y + 20);
    assert.equal(await page.textContent(".spot .glyph"), "M"); // the third character of ROMEO
    await close(page);
  }
}

export async function nothing_moves_while_text_streams(browser, url) {
  for (const viewport of [{ width: 1280, height: 800 }, PHONE]) {
    const page = await open(browser, url, { options: { viewport } });
    await set(page, { length: 600, seed: 4 });
    await page.evaluate(() => { scrollTo(0, 0); window.shifts.length = 0; });
    await page.press("#prompt", "Control+Enter");
    await page.waitForTimeout(600); // what moves within half a second of a key does not count
    assert.ok(await page.isEnabled("#stop"), "it is still written");
    await settled(page);
    assert.equal((await text(page)).length, 600);
    // On a phone the last word of a line moves to the next one as it outgrows the line; no element moves.
    const wrapped = ([, ...nodes]) => viewport === PHONE && nodes.every((node) => node === "#text");
    assert.deepEqual((await page.evaluate(() => window.shifts)).filter((one) => !wrapped(one)), []);
    await close(page);
  }
}

export async function a_link_has_what_is_compared_and_scored(browser, url) {
  const page = await open(browser, url);
  await page.click("#tab-compare");
  await page.waitForSelector("#prompt-0");
  await page.fill("#prompt-0", "ROMEO:\n");
  await page.fill("#prompt-1", "JULIET:\n");
  for (const [name, value] of [["temperature-1", "0.7"], ["both-seed", "4"], ["both-length", "80"]]) {
    await page.fill(`#${name}`, value);
    await page.press(`#${name}`, "Tab");
  }
  const both = (one) => one.locator("#compare .text").evaluateAll((all) => all.map((each) => each.textContent));
  const compared = (one) => one.waitForFunction(() => [87, 88].every((size, at) => (
    document.querySelectorAll("#compare .text")[at]?.textContent.length === size)));
  await page.click("#compare button.main");
  await compared(page);
  assert.ok(page.url().length < 400, page.url());
  const other = await open(browser, page.url());
  await compared(other);
  assert.deepEqual(await both(other), await both(page));
  assert.equal(await other.inputValue("#temperature-1"), "0.7");
  assert.equal(other.url(), page.url());
  await close(other);
  await page.click("#tab-score");
  await page.waitForSelector("#pasted");
  await page.fill("#pasted", "The king is dead.\nERROR eth0: timeout\n");
  await page.click("#score button.main");
  await page.waitForSelector("#score table");
  const scored = await open(browser, page.url());
  await scored.waitForSelector("#score table");
  assert.equal(await scored.textContent("#score .figures"), await page.textContent("#score .figures"));
  await close(scored);
  let chance = 1;
  await page.fill("#pasted", Array.from({ length: 4_000 }, () => {
    chance = Math.imul(chance, 1103515245) + 12345 >>> 0;
    return String.fromCharCode(33 + (chance >>> 16) % 94);
  }).join(""));
  await page.click("#score button.main");
  await page.waitForFunction(() => document.querySelector("#score .figures").textContent.includes("4,000 characters"));
  const long = await open(browser, page.url());
  await long.waitForSelector("#pasted");
  await long.waitForFunction(() => /too long for the link/.test(document.getElementById("notice").textContent));
  await close(long);
  await page.click("#tab-write");
  assert.equal(new URL(page.url()).hash, ""); // nothing was written there
  await close(page);
}

export async function text_never_becomes_markup(browser, url) {
  const page = await open(browser, url);
  const evil = "<img src=x onerror=alert(1)><script>alert(2)</script>&amp;\u202e";
  page.on("dialog", () => page.wrong.push("a dialog opened"));
  await write(page, evil, { ...ROMEO, length: 20 });
  assert.ok((await text(page)).startsWith(evil));
  assert.equal(await page.locator("#paper img, #paper script, #tree img").count(), 0);
  for (const kind of ["html", "svg", "png"]) {
    await page.click(".menu summary");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#as-${kind}`)]);
    const path = await download.path();
    if (kind === "png") {
      await draws(page, path);
      continue;
    }
    const alone = await browser.newPage();
    alone.on("dialog", () => page.wrong.push("a dialog opened"));
    const { copyFileSync, rmSync } = await import("node:fs");
    copyFileSync(path, `${path}.${kind}`);
    await alone.goto(`file://${path}.${kind}`);
    assert.equal(await alone.locator("img, script").count(), 0);
    const shown = await alone.evaluate(() => document.documentElement.textContent.replace(/\s/g, ""));
    assert.ok(shown.includes(evil.replace(/\s/g, "")), kind);
    await alone.close();
    rmSync(`${path}.${kind}`);
  }
  await close(page);
}

export async function compares_and_scores(browser, url) {
  const page = await open(browser, url);
  await page.click("#tab-compare");
  await page.waitForSelector("#prompt-0");
  for (const side of [0, 1]) await page.fill(`#prompt-${side}`, "ROMEO:\n");
  await page.fill("#both-seed", "4");
  await page.press("#both-seed", "Tab");
  await page.click("#compare button.main");
  await page.waitForFunction(() => [0, 1].every((side) => /^307 characters/.test(document.getElementById(`facts-${side}`).textContent)));
  await page.waitForFunction(() => [...document.querySelectorAll("#compare .text")].every((one) => one.textContent.length === 307));
  for (const [side, temperature] of [[0, 0.5], [1, 1]]) {
    const wanted = await complete(url, { prompt: "ROMEO:\n", max_tokens: 300, seed: 4, ...SAMPLING, temperature });
    assert.equal(await page.locator("#compare .text").nth(side).evaluate((one) => one.textContent), `ROMEO:\n${wanted}`);
  }
  await page.click("#tab-score");
  await page.waitForSelector("#pasted");
  await page.fill("#pasted", "The king is dead, my lord.\n\n2026-11-22 06:25:14 ERROR eth0: timeout\n");
  await page.click("#score button.main");
  await page.waitForSelector("#score table");
  const { results: [scored] } = await (await fetch(new URL("v1/score", url), {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ texts: ["The king is dead, my lord.\n\n2026-11-22 06:25:14 ERROR eth0: timeout\n"], details: true }),
  })).json();
  const mean = (some) => (some.reduce((sum, one) => sum + one.bits, 0) / some.length).toFixed(2);
  assert.deepEqual(await page.locator("#score tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))), [
    [mean(scored.details.slice(28)), "3", "2026-11-22 06:25:14 ERROR eth0: timeout"],
    [mean(scored.details.slice(0, 27)), "1", "The king is dead, my lord."],
  ]);
  const figures = await page.textContent("#score .figures");
  assert.ok(figures.includes(`${scored.bits_per_character.toFixed(2)}bits per character`), figures);
  assert.ok(figures.includes(`${scored.anomaly.percentile.toFixed(1)} %of passages`), figures);
  await page.click("#tab-card");
  await page.waitForSelector("#card dl");
  assert.match(await page.textContent("#card"), /2\.07\s*bits per character, test part/);
  assert.match(await page.textContent("#card"), /Parameters\s*3,596,657/);
  await page.waitForFunction(() => /Vocabulary\s*65 characters; 256 bytes/.test(document.getElementById("card").textContent));
  await close(page);
}

export async function a_phone_shows_what_is_tapped(browser, url) {
  const page = await open(browser, url, { options: { viewport: PHONE, hasTouch: true, isMobile: true } });
  await write(page, "ROMEO:\n", { ...ROMEO, length: 600 });
  const before = await text(page);
  for (const share of [0.9, 0.2]) { // of the height of the paper; what is tapped near its end would be covered
    await page.evaluate(() => scrollTo(0, 0));
    const [x, y] = await page.evaluate((part) => {
      const paper = document.getElementById("paper").getBoundingClientRect(), wanted = paper.top + part * paper.height;
      const all = [...document.querySelectorAll("#paper .line > span")].map((one) => one.getBoundingClientRect());
      const rect = all.find(({ top, bottom, width }) => top > paper.top && bottom > wanted && bottom < paper.bottom && width > 6);
      return [rect.left + 3, rect.top + 8];
    }, share);
    await page.touchscreen.tap(x, y);
    await page.waitForSelector(".spot");
    const [here, mark] = await page.evaluate(() => [".here", "#paper .mark"].map((one) => document.querySelector(one).getBoundingClientRect()));
    assert.ok(here.bottom <= PHONE.height && mark.bottom <= here.top, `${mark.bottom}, then ${here.top} to ${here.bottom}`);
  }
  await page.locator(".choices button:not(:disabled)").first().tap();
  await settled(page);
  assert.notEqual(await text(page), before);
  assert.equal(await page.locator(".tree button").count(), 2);
  await close(page);
}

/** Press Tab until an element has the focus. */
async function tabTo(page, selector) {
  for (let step = 0; step < 60; step++) {
    if (await page.evaluate((one) => document.activeElement.matches(one), selector)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} cannot be reached with Tab`);
}

export async function the_keyboard_is_enough(browser, url) {
  const page = await open(browser, url);
  await tabTo(page, "#prompt");
  await page.keyboard.type("ROMEO:\n");
  await tabTo(page, "#set-length");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("60");
  await tabTo(page, "#set-seed");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("4");
  await page.keyboard.press("Control+Enter");
  await settled(page);
  const first = "ROMEO:\n" + await complete(url, { prompt: "ROMEO:\n", max_tokens: 60, seed: 4, ...SAMPLING });
  assert.equal(await text(page), first);
  await page.evaluate(() => document.activeElement.blur());
  await tabTo(page, "#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 20; step++) await page.keyboard.press("ArrowRight");
  const keys = await page.locator(".choices button:not(:disabled) kbd").allTextContents();
  await page.keyboard.press(keys[0].trim());
  await settled(page);
  const branch = await text(page);
  assert.equal(branch.slice(0, 20), first.slice(0, 20));
  assert.notEqual(branch[20], first[20]);
  await page.keyboard.press("g");
  await settled(page);
  assert.equal(Array.from(await text(page)).length, 21 + 60 + 60);
  for (const wanted of [branch, first]) {
    await page.keyboard.press("Control+z");
    await settled(page);
    assert.equal(await text(page), wanted);
  }
  for (let more = 0; more < 5; more++) {
    await page.keyboard.press("g");
    await settled(page);
    const [row, box] = await page.evaluate(() => ["#tree [aria-current]", "#tree"].map(
      (one) => document.querySelector(one).getBoundingClientRect()).map(({ top, bottom }) => [top, bottom]));
    assert.ok(row[0] >= box[0] - 1 && row[1] <= box[1] + 1, "the branch that is shown is seen in the list");
  }
  await page.evaluate(() => document.activeElement.blur());
  await tabTo(page, "#tab-write");
  await page.keyboard.press("ArrowRight");
  await page.waitForSelector("#prompt-0");
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-compare");
  await close(page);
}

/** A unit belongs to a model: when a text of another one is shown, the best of its own units is. */
async function finds_units_of_each_model(page, url) {
  await page.selectOption("#lens-kind", "unit");
  for (const [name, at] of [["bundled", 1], ["tiny", 0], ["bundled", 1]]) {
    await page.locator(".tree button").nth(at).click();
    const answer = await fetch(new URL("v1/inspect/units", url), {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: name, text: await text(page), most: 2 }),
    });
    const found = (await answer.json()).features.flatMap((one) => one.units);
    const best = found.toSorted((a, b) => Math.abs(b.correlation) - Math.abs(a.correlation))[0];
    await page.waitForFunction(([layer, part, unit]) => ["layer", "part", "unit"].map(
      (field) => document.getElementById(field)?.value).join() === [layer, part, unit].join(), [best.layer, best.part, best.unit]);
    const shares = await page.locator("#found option:not(:disabled)").allTextContents();
    assert.deepEqual(shares.map((one) => /-?[\d.]+(?=\)$)/.exec(one)[0]), found.map((one) => one.correlation.toFixed(2)));
    assert.equal(await page.locator("#notice").isVisible(), false);
  }
  await page.selectOption("#lens-kind", "surprise");
}

export async function chooses_and_compares_models(browser, url) {
  const page = await open(browser, url);
  const models = await page.locator("#model option").allTextContents();
  assert.deepEqual(models, ["bundled", "tiny"]);
  const fields = { prompt: "ab", max_tokens: 50, seed: 4, ...SAMPLING };
  await page.selectOption("#model", "tiny");
  await write(page, "ab", { temperature: 0.8, seed: 4, length: 50 });
  const tiny = "ab" + await complete(url, { ...fields, model: "tiny" });
  assert.equal(await text(page), tiny);
  await page.selectOption("#model", "bundled");
  await page.click("#more");
  await settled(page);
  const both = tiny + await complete(url, { ...fields, prompt: tiny, seed: 5, model: "bundled" });
  await finds_units_of_each_model(page, url);
  assert.equal(await text(page), both);
  const other = await open(browser, page.url()); // of two models' parts each by its own
  await settled(other);
  assert.equal(await text(other), both);
  await close(other);
  await page.click("#tab-compare");
  await page.waitForSelector("#prompt-0");
  assert.ok(!(await page.isVisible("#model"))); // each side has its own
  for (const name of ["tiny", "bundled"]) {
    await page.click("#tab-write");
    await page.selectOption("#model", name);
    await page.click("#tab-compare");
    await page.waitForFunction((wanted) => [0, 1].every((at) => document.getElementById(`model-${at}`).value === wanted), name);
  }
  await page.selectOption("#model-1", "tiny");
  await page.fill("#prompt-0", "ab");
  await page.fill("#prompt-1", "abc");
  for (const [name, value] of [["temperature-0", "0.8"], ["temperature-1", "0.8"], ["both-seed", "4"], ["both-length", "50"]]) {
    await page.fill(`#${name}`, value);
    await page.press(`#${name}`, "Tab");
  }
  await page.click("#compare button.main");
  for (const [side, model, prompt] of [[0, "bundled", "ab"], [1, "tiny", "abc"]]) {
    const wanted = prompt + await complete(url, { ...fields, prompt, model });
    await page.waitForFunction(([at, whole]) => document.querySelectorAll("#compare .text")[at].textContent === whole, [side, wanted]);
  }
  await page.click("#tab-card");
  await page.waitForFunction(() => document.querySelectorAll("#card article").length === 2);
  const [, tinyCard] = await page.locator("#card article").allTextContents();
  assert.match(tinyCard, /has no figures of text it\s+did not learn from/);
  await close(page);
}

export async function everyone_can_use_it(browser, url) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [{ width: 1280, height: 800 }, PHONE]) {
      const page = await open(browser, url, { axe: true, options: { colorScheme, viewport } });
      const check = async (state) => {
        const { violations } = await page.evaluate(() => window.axe.run(document, {
          runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        }));
        const found = violations.map((one) => `${one.id}: ${one.nodes.slice(0, 2).map((node) => node.html.slice(0, 120)).join(" | ")}`);
        assert.deepEqual(found, [], `${state}, ${colorScheme}, ${viewport.width}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= viewport.width, `${state} is ${wide} wide`);
      };
      await check("empty");
      await write(page, "ROMEO:\n", ROMEO);
      await page.focus("#paper");
      await page.keyboard.press("End");
      await page.waitForSelector(".choices");
      await page.waitForFunction(() => document.getElementById("said").textContent.includes("bits"));
      await check("written");
      await page.selectOption("#lens-kind", "unit");
      await page.waitForSelector("#lens[data-kind=unit] #unit");
      await check("unit");
      for (const [tab, there] of [["compare", "#prompt-0"], ["score", "#pasted"], ["card", "#card dl"]]) {
        await page.click(`#tab-${tab}`);
        await page.waitForSelector(there);
        await check(tab);
      }
      await close(page);
    }
  }
}

export async function twenty_thousand_characters_do_not_move(browser, url) {
  const page = await open(browser, url);
  await write(page, "ROMEO:\n", { ...ROMEO, length: 20_000 });
  const shown = await text(page);
  assert.equal(shown, "ROMEO:\n" + await complete(url, { prompt: "ROMEO:\n", max_tokens: 20_000, seed: 4, ...SAMPLING }));
  assert.deepEqual(await page.evaluate(() => window.shifts), []);
  const [runs, longest] = await page.evaluate(() => [
    document.querySelectorAll("#paper .line > span").length,
    Math.max(...[...document.querySelectorAll("#paper .line")].map((line) => line.textContent.length)),
  ]);
  assert.ok(runs > 5_000 && runs < 20_000, runs);
  assert.ok(longest <= 2_000);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  await page.keyboard.press("End");
  await page.waitForSelector(".spot");
  await close(page);
}
