/** node run.mjs SCENARIO URL: run one scenario in a browser of its own; the status says whether it went well. */

import { launch } from "./harness.mjs";
import * as reports from "./reports.mjs";
import * as scenarios from "./scenarios.mjs";

const [, , name, url] = process.argv;
const browser = await launch();
try {
  await { ...scenarios, ...reports }[name](browser, url);
} finally {
  await browser.close();
}
