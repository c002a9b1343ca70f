/** What people see of a run's report.html: of a browser and the address of two reports, of a text and of a list. */

import assert from "node:assert/strict";
import { AXE, WATCH } from "./harness.mjs";

const LONGEST_LIST = 9_000; // pixels of the page of 3,000 characters of names, which was 14,457 high in one column
const LONGEST_ON_A_PHONE = 12_000; // of the same at 400, where names of ten characters stand in three columns
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

export async function reports_are_for_everyone(browser, url) {
  for (const name of ["text", "list"]) {
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1280, 400]) {
        const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 } });
        const page = await context.newPage();
        await page.addInitScript(WATCH);
        await page.addInitScript({ content: AXE });
        await page.goto(`${url}${name}.html`);
        await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
        const at = `${name}, ${colorScheme}, ${width}`;
        const { violations } = await page.evaluate((rules) => window.axe.run(document, { runOnly: rules }), RULES);
        assert.deepEqual(violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 200)}`), [], at);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width, `${at} is too wide`);
        assert.deepEqual(await page.evaluate(() => window.violations), []);
        const rows = await page.locator("#card tbody tr").evaluateAll((all) => all.map((row) => {
          const cells = [...row.children].map((cell) => cell.getBoundingClientRect()).filter((box) => box.height);
          return cells.every((box, place) => !place || box.top >= cells[place - 1].bottom - 1);
        }));
        assert.equal(rows.every(Boolean), width === 400, `${at}: rows are cards on a phone alone`);
        await context.close();
      }
    }
  }
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${url}list.html`);
  assert.ok(await page.evaluate(() => document.documentElement.scrollHeight) < LONGEST_LIST);
  const lefts = await page.locator("#page .lines span").evaluateAll((all) => new Set(all.map((one) => Math.round(one.getBoundingClientRect().left / 130))).size);
  assert.ok(lefts >= 5, `${lefts} columns`);
  await page.setViewportSize({ width: 400, height: 800 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollHeight) < LONGEST_ON_A_PHONE);
  await page.close();
}
