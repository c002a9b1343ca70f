/** A strip chart on a canvas: surprise as bars and entropy as a line, of the whole text or of any number of characters. */

const TOP = 8; // bits at the upper edge
const PAUSE = 120; // milliseconds between two drawings while text streams

export class Strip {
  /** chosen: called with the character that was clicked. */
  constructor(canvas, chosen) {
    this.canvas = canvas;
    this.doc = null;
    this.at = -1;
    this.waiting = false;
    canvas.addEventListener("click", (event) => {
      if (this.doc?.chars.length) chosen(this._place(event.offsetX));
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(doc) {
    this.doc = doc;
    this.later();
  }

  look(at) {
    this.at = at;
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => requestAnimationFrame(() => { this.waiting = false; this.draw(); }), PAUSE);
  }

  _place(x) {
    const count = this.doc.chars.length;
    return Math.min(count - 1, Math.floor((x / this.canvas.clientWidth) * Math.max(count, this._least())));
  }

  _least() {
    return Math.floor(this.canvas.clientWidth / 6); // so that bars of a short text are no wider than this
  }

  draw() {
    const { canvas, doc } = this;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("--grid");
    for (const bits of [2, 4, 6]) pen.fillRect(0, Math.round(height * (1 - bits / TOP)), width, 1);
    if (!doc?.chars.length) return;
    const count = Math.max(doc.chars.length, this._least());
    const columns = Math.min(count, Math.floor(width / (2 * ratio)));
    const step = width / columns;
    pen.fillStyle = colour("--bar");
    const line = [];
    for (let column = 0; column < columns; column++) {
      const from = Math.floor((column * count) / columns), to = Math.floor(((column + 1) * count) / columns);
      if (from >= doc.chars.length) break;
      const bits = mean(doc.bits, from, to), entropy = mean(doc.entropy, from, to);
      const x = Math.round(column * step), next = Math.round((column + 1) * step);
      const tall = Math.min(1, bits / TOP) * height;
      if (tall > 0) pen.fillRect(x, height - tall, Math.max(1, next - x - (step > 3 * ratio ? 1 : 0)), tall);
      if (!Number.isNaN(entropy)) line.push([(x + next) / 2, height - Math.min(1, entropy / TOP) * height]);
    }
    pen.strokeStyle = colour("--curve");
    pen.lineWidth = 1.5 * ratio;
    pen.beginPath();
    line.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
    if (this.at >= 0) {
      pen.fillStyle = colour("--ink");
      pen.fillRect(Math.round(((this.at + 0.5) / count) * width), 0, Math.max(1, ratio), height);
    }
  }
}

function mean(values, from, to) {
  let sum = 0, known = 0;
  for (let at = from; at < Math.min(to, values.length); at++) {
    if (!Number.isNaN(values[at])) { sum += values[at]; known++; }
  }
  return known ? sum / known : NaN;
}
