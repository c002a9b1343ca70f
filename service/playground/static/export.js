/** The view as a file: a picture of it, or a page of its own that needs no server. */

import { levelOf } from "./text_view.js";

const COLUMNS = 76, WIDE = 9, TALL = 26, EDGE = 32, FOOT = 34; // characters, and pixels
const HEAT = ["", "#fff2de", "#ffe4bf", "#ffd097", "#ffb76e", "#fd9c51", "#f58342"];
const LINES = [0, 0, 0, 1, 2, 3, 4]; // pixels of the underline
const PAPER = "#fffdf9", INK = "#221c15", SOFT = "#665b4e", RULE = "#b2440f";
const FONT = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
const MOST_ROWS = 1_200; // of a picture; browsers draw none that is much taller

// What XML cannot have, and a terminal would not show.
// eslint-disable-next-line no-control-regex
const clean = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd");
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => clean(text).replace(/[&<>"']/g, (found) => ENTITIES[found]);

function rowsOf(doc) {
  const rows = [[]];
  let column = 0;
  doc.chars.forEach((char, at) => {
    if (char === "\n") { rows.push([]); column = 0; return; }
    if (column >= COLUMNS) { rows.push([]); column = 0; }
    const row = rows.at(-1), level = levelOf(doc.bits[at]), last = row.at(-1), made = doc.made[at];
    const shown = char === "\t" ? " " : char;
    if (last && last.level === level && last.made === made) { last.text += shown; last.length++; }
    else row.push({ text: shown, level, made, column, length: 1 });
    column++;
  });
  return rows;
}

const footOf = (doc) => {
  const seed = doc.lastSettings?.seed, mean = doc.mean();
  return [doc.served ?? doc.model, seed === undefined ? "" : `seed ${seed}`,
    Number.isNaN(mean) ? "" : `${mean.toFixed(2)} bits per character`, "unroll"].filter(Boolean).join(" · ");
};

function svgOf(doc) {
  const rows = rowsOf(doc).slice(0, MOST_ROWS);
  const width = COLUMNS * WIDE + 2 * EDGE, height = rows.length * TALL + 2 * EDGE + FOOT;
  const out = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    `<rect width="100%" height="100%" fill="${PAPER}"/>`,
    `<g font-family="${escaped(FONT)}" font-size="15" fill="${INK}" xml:space="preserve">`];
  rows.forEach((row, index) => {
    const y = EDGE + index * TALL;
    for (const run of row) {
      const x = EDGE + run.column * WIDE, long = run.length * WIDE;
      if (HEAT[run.level]) out.push(`<rect x="${x}" y="${y}" width="${long}" height="${TALL - 4}" fill="${HEAT[run.level]}"/>`);
      if (LINES[run.level]) out.push(`<rect x="${x}" y="${y + TALL - 5}" width="${long}" height="${LINES[run.level]}" fill="${RULE}"/>`);
      out.push(`<text x="${x}" y="${y + 16}" textLength="${long}"${run.made ? "" : ' font-weight="700"'}>${escaped(run.text)}</text>`);
    }
  });
  out.push(`<text x="${EDGE}" y="${height - EDGE + 6}" font-size="12" fill="${SOFT}">${escaped(footOf(doc))}</text></g></svg>`);
  return new Blob([out.join("\n")], { type: "image/svg+xml" });
}

function pngOf(doc) {
  const rows = rowsOf(doc).slice(0, MOST_ROWS);
  const scale = rows.length > 300 ? 1 : 2;
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = (COLUMNS * WIDE + 2 * EDGE) * scale;
  canvas.height = (rows.length * TALL + 2 * EDGE + FOOT) * scale;
  pen.scale(scale, scale);
  pen.fillStyle = PAPER;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  rows.forEach((row, index) => {
    const y = EDGE + index * TALL;
    for (const run of row) {
      const x = EDGE + run.column * WIDE, long = run.length * WIDE;
      if (HEAT[run.level]) { pen.fillStyle = HEAT[run.level]; pen.fillRect(x, y, long, TALL - 4); }
      pen.fillStyle = RULE;
      pen.fillRect(x, y + TALL - 5, long, LINES[run.level]);
      pen.fillStyle = INK;
      pen.font = `${run.made ? "" : "700 "}15px ${FONT}`;
      Array.from(run.text).forEach((char, each) => pen.fillText(char, x + each * WIDE, y + 16));
    }
  });
  pen.fillStyle = SOFT;
  pen.font = `12px ${FONT}`;
  pen.fillText(footOf(doc), EDGE, canvas.height / scale - EDGE + 6);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function htmlOf(doc, address) {
  const css = `body{margin:0;background:${PAPER};color:${INK};font:15px/1.85 ${FONT}}main{max-width:84ch;margin:auto;padding:40px 20px}`
    + "pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;margin:0}footer{color:#665b4e;font-size:13px;margin-top:28px}"
    + "u{text-decoration:none;text-underline-offset:4px;text-decoration-skip-ink:none}"
    + HEAT.map((colour, level) => (colour ? `.l${level}{background:${colour};text-decoration:underline ${LINES[level]}px ${RULE}}` : "")).join("");
  const runs = [];
  for (let from = 0; from < doc.chars.length;) {
    const level = levelOf(doc.bits[from]), made = doc.made[from];
    let to = from + 1;
    while (to < doc.chars.length && levelOf(doc.bits[to]) === level && doc.made[to] === made) to++;
    const text = escaped(doc.chars.slice(from, to).join(""));
    const tag = made ? text : `<b>${text}</b>`;
    runs.push(level ? `<u class="l${level}">${tag}</u>` : tag);
    from = to;
  }
  const page = `<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">`
    + `<title>A text, coloured by surprise</title><style>${css}</style><main><pre>${runs.join("")}</pre>`
    + `<footer>${escaped(footOf(doc))} · bold was typed · the brighter and the thicker its line, the more a character surprised the model`
    + ` · <a href="${escaped(address)}">the same, live</a></footer></main></html>\n`;
  return new Blob([page], { type: "text/html" });
}

/** Let the browser save a text as html, svg or png. */
export async function save(doc, kind, address, say) {
  if (!doc?.chars.length) {
    say("There is nothing to export yet; write a text first.");
    return;
  }
  const blob = kind === "html" ? htmlOf(doc, address) : kind === "svg" ? svgOf(doc) : await pngOf(doc);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `unroll-${doc.lastSettings?.seed ?? "text"}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
