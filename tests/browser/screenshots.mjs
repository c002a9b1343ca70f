/** node screenshots.mjs URL FOLDER: the pictures of the page in docs. */

import { launch, open, PHONE, settled, write } from "./harness.mjs";

const [, , url, folder] = process.argv;
const browser = await launch();
const FIELDS = { temperature: 0.8, seed: 4, length: 460 };

async function picture(name, options, prepare) {
  const page = await open(browser, url, { options });
  await prepare(page);
  await page.evaluate(() => document.activeElement.blur());
  await page.evaluate(() => scrollTo(0, 0));
  await page.waitForTimeout(400); // the chart draws a moment later
  await page.screenshot({ path: `${folder}/${name}.png` });
  await page.context().close();
}

async function written(page, steps) {
  await write(page, "ROMEO:\n", FIELDS);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < steps; step++) await page.keyboard.press("ArrowRight");
}

await picture("light", { colorScheme: "light" }, (page) => written(page, 87));
await picture("dark", { colorScheme: "dark" }, async (page) => {
  await written(page, 30);
  await page.locator(".choices button:not(:disabled)").first().click();
  await settled(page);
  await page.focus("#paper");
  await page.keyboard.press("Home");
  for (let step = 0; step < 64; step++) await page.keyboard.press("ArrowRight");
});
await picture("unit", { colorScheme: "light", viewport: { width: 1280, height: 720 } }, async (page) => {
  await written(page, 87);
  await page.selectOption("#lens-kind", "unit");
  await page.waitForSelector("#lens[data-kind=unit]");
  await page.waitForTimeout(600);
});
await picture("phone", { colorScheme: "light", viewport: PHONE }, async (page) => {
  await written(page, 30);
  await page.click("#options summary");
});
await picture("compare", { colorScheme: "light", viewport: { width: 1280, height: 720 } }, async (page) => {
  await page.click("#tab-compare");
  await page.waitForSelector("#prompt-0");
  for (const side of [0, 1]) await page.fill(`#prompt-${side}`, "ROMEO:\n");
  await page.fill("#both-seed", "4");
  await page.press("#both-seed", "Tab");
  await page.click("#compare button.main");
  await page.waitForTimeout(2_500);
});
await picture("score", { colorScheme: "light", viewport: { width: 1280, height: 720 } }, async (page) => {
  await page.click("#tab-score");
  await page.waitForSelector("#pasted");
  await page.fill("#pasted", "My lord, the king is dead, and all is lost.\nMy lord, the kin gist head, and owl is loft.\n"
    + "2026-11-22 06:25:14 ERROR eth0: timeout\nGood night, sweet prince.\n");
  await page.click("#score button.main");
  await page.waitForSelector("#score table");
  await page.focus("#score .paper");
  for (let step = 0; step < 58; step++) await page.keyboard.press("ArrowRight");
});
await browser.close();
