/** Opens pages in Chromium, and holds each to what must always be so: no error, no violation of the policy, no shift. */

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

export const WATCH = () => {
  window.violations = [];
  window.shifts = [];
  addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const moved = entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 80) ?? node?.nodeName);
      if (!entry.hadRecentInput) window.shifts.push([entry.value, ...moved]);
    }
  }).observe({ type: "layout-shift", buffered: true });
};

/** A page of its own context, as it is once it can be used. options: of the context; axe: whether to load axe. */
export async function open(browser, url, { options = {}, axe = false, models = true } = {}) {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin) && !request.url().startsWith("blob:")) page.wrong.push(`asked ${request.url()}`);
  });
  await page.addInitScript(WATCH);
  if (axe) await page.addInitScript({ content: AXE });
  await page.goto(url);
  await page.waitForFunction((wanted) => document.documentElement.dataset.ready
    && (!wanted || document.getElementById("model").length), models);
  return page;
}

/** Hold a page to what must always be so, and close it. */
export async function close(page) {
  assert.deepEqual(await page.evaluate(() => window.violations), []);
  assert.deepEqual(page.wrong, []);
  await page.context().close();
}

/** Set fields of the settings, as a person does. */
export async function set(page, fields) {
  if (await page.locator("#options").evaluate((element) => !element.open)) await page.click("#options summary");
  for (const [name, value] of Object.entries(fields)) {
    await page.fill(`#set-${name}`, String(value));
    await page.press(`#set-${name}`, "Tab");
  }
}

/** Write a text, and wait until all of it is shown. */
export async function write(page, prompt, fields) {
  await set(page, fields);
  await page.fill("#prompt", prompt);
  await page.click("#go");
  await settled(page);
}

/** Wait until nothing is written, scored or drawn any more. */
export async function settled(page, timeout = 60_000) {
  await page.waitForFunction(() => document.getElementById("stop").disabled, null, { timeout });
  await page.waitForFunction(() => {
    const runs = document.querySelectorAll("#paper .line > span").length;
    const now = document.getElementById("facts").textContent + runs + document.querySelector("#paper .text").textContent.length;
    const same = window.before === now;
    window.before = now;
    return same && document.getElementById("paper").dataset.known === "yes";
  }, null, { timeout, polling: 150 });
}

export const text = (page) => page.locator("#paper .text").evaluate((element) => element.textContent);

/** A completion straight from the server. */
export async function complete(url, body) {
  const answer = await fetch(new URL("v1/completions", url), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).choices[0].text;
}
