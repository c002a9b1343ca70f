/** node measure.mjs URL: figures of the page as JSON: bytes, first paint with nothing cached, work of a frame. */

import { launch, open, set, text } from "./harness.mjs";

const [, , url] = process.argv;
const STARTS = 7; // browsers that were never at the page
const CHARACTERS = 20_000;

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Milliseconds until the first paint in a browser with nothing cached, and until the page can be used. */
async function coldStart() {
  const browser = await launch();
  const page = await open(browser, url);
  const ready = await page.evaluate(() => performance.now());
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  const bytes = await page.evaluate(() => performance.getEntries()
    .filter((one) => ["navigation", "resource"].includes(one.entryType) && !one.name.includes("/v1/"))
    .reduce((sum, one) => sum + one.encodedBodySize, 0));
  await browser.close();
  return { paint, ready, bytes };
}

/** Trace what a browser does meanwhile. */
async function traced(browser, page, work) {
  const session = await browser.newBrowserCDPSession();
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => { for (const one of value) events.push(one); });
  await session.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["disabled-by-default-devtools.timeline", "blink.user_timing"] },
  });
  await work();
  const complete = new Promise((resolve) => { session.once("Tracing.tracingComplete", resolve); });
  await session.send("Tracing.end");
  await complete;
  return events;
}

/** Milliseconds that the page's main thread worked from frame to frame: of processor time, and by the clock. */
function framesOf(events) {
  const mark = events.find((one) => one.name === "measured" && one.cat.includes("blink.user_timing"));
  const own = events.filter((one) => one.pid === mark.pid && one.tid === mark.tid);
  const tasks = own.filter((one) => one.ph === "X" && one.name === "RunTask" && one.ts >= mark.ts).sort((a, b) => a.ts - b.ts);
  const commits = own.filter((one) => one.name === "Commit" && one.ts >= mark.ts).map((one) => one.ts).sort((a, b) => a - b);
  const frames = [];
  let at = 0;
  for (const commit of commits) {
    let work = 0, clock = 0;
    for (; at < tasks.length && tasks[at].ts <= commit; at++) { work += tasks[at].tdur ?? tasks[at].dur; clock += tasks[at].dur; }
    frames.push({ work: work / 1000, clock: clock / 1000 });
  }
  return frames;
}

async function frames() {
  const browser = await launch();
  const page = await open(browser, url);
  await set(page, { temperature: 0.8, seed: 4, length: CHARACTERS });
  await page.fill("#prompt", "ROMEO:\n");
  const events = await traced(browser, page, async () => {
    await page.evaluate(() => performance.mark("measured"));
    await page.click("#go");
    // What looks on costs the page nothing to speak of: the whole text is counted only when all of it was written.
    await page.waitForFunction(() => document.getElementById("paper").dataset.known === "yes"
      && document.getElementById("stop").disabled, null, { timeout: 120_000, polling: 500 });
    await page.waitForTimeout(5_000); // the last characters are shown, and coloured anew
  });
  const found = framesOf(events);
  const shown = Array.from(await text(page)).length;
  const shifts = await page.evaluate(() => window.shifts.length);
  await browser.close();
  const of = (name, share) => {
    const values = found.map((one) => one[name]).sort((a, b) => a - b);
    return values[Math.min(values.length - 1, Math.floor(values.length * share))];
  };
  return { shown, shifts, frames: found.length, work_p50: of("work", 0.5), work_p95: of("work", 0.95), clock_p95: of("clock", 0.95) };
}

const starts = [];
for (let at = 0; at < STARTS; at++) starts.push(await coldStart());
console.log(JSON.stringify({
  first_paint_ms: median(starts.map((one) => one.paint)), ready_ms: median(starts.map((one) => one.ready)),
  bytes_at_start: starts[0].bytes, ...await frames(),
}));
