/**
 * Text whose characters are coloured: runs of one colour are spans, which are only appended, a few each frame.
 *
 * Of two ways that were measured with 20,000 characters this one takes the browser a third of the work of the Custom
 * Highlight API. A line is a block, so that a frame lays out the last line alone; a line without end is cut into blocks.
 */

const LONGEST = 1_000; // characters of a block
const TOGETHER = 24; // lines that the browser paints as one
const FRAME = 72; // characters that are added in a frame
const MARGIN = 28; // pixels of the text that are seen above and below a character
const AT_ONCE = 1_500; // characters of a text that is there already
const RECOLOURED = 12; // blocks that are coloured anew in a frame
export const STEPS = [0.5, 1, 2, 3, 4.5, 6]; // bits at which the next colour begins

/** The colour of a surprise in bits, from 0 to 6. */
export function levelOf(bits) {
  if (Number.isNaN(bits)) return 0;
  let level = 0;
  while (level < STEPS.length && bits >= STEPS[level]) level++;
  return level;
}

/** The class of a character by its surprise. */
export const surprise = (doc, at) => `l${levelOf(doc.bits[at])}`;

export class TextView {
  /** host: the element that scrolls. changed: called when the place looked at is another. */
  constructor(host, changed = () => {}) {
    this.host = host;
    this.changed = changed;
    this.paint = surprise;
    this.body = document.createElement("div");
    this.body.className = "text";
    this.mark = document.createElement("div");
    this.mark.className = "mark";
    this.mark.hidden = true;
    host.replaceChildren(this.body, this.mark);
    this.waiting = null;
    this.follows = true; // whether it scrolls with what is written
    this.at = -1;
    host.addEventListener("pointermove", (event) => this._pointed(event));
    this.show(null);
  }

  /** Show a text from its beginning. */
  show(doc) {
    this.doc = doc;
    this.lines = [];
    this.done = 0;
    this.stale = 0;
    this.body.replaceChildren();
    this.look(-1);
    while (doc && this.done < Math.min(doc.chars.length, AT_ONCE)) this._step();
    this.grew();
  }

  /** The text has more characters than are shown. */
  grew() {
    this.waiting ??= requestAnimationFrame(() => this._frame());
  }

  /** Colours are others than before, from a character on. */
  recolour() {
    this.stale = 0;
    this.grew();
  }

  /** Show everything that is there now, for a picture or a test. */
  flush() {
    while (this.doc && (this.done < this.doc.chars.length || this.stale < this.lines.length)) this._step();
  }

  get settled() {
    return !this.doc || (this.done >= this.doc.chars.length && this.stale >= this.lines.length);
  }

  _frame() {
    this.waiting = null;
    if (!this.doc) return;
    const follow = this.follows && this.host.scrollHeight - this.host.scrollTop - this.host.clientHeight < 40;
    const before = this.done;
    this._step();
    if (follow && this.done > before && this.at < 0) this.host.scrollTop = this.host.scrollHeight;
    if (!this.settled) this.grew();
  }

  _step() {
    if (this.stale < this.lines.length) {
      const end = Math.min(this.lines.length, this.stale + RECOLOURED);
      for (; this.stale < end; this.stale++) this._colour(this.lines[this.stale]);
    }
    const end = Math.min(this.doc.chars.length, this.done + FRAME);
    while (this.done < end) this._add(end);
  }

  _kind(at) {
    const char = this.doc.chars[at];
    return `${this.paint(this.doc, at)}${this.doc.made[at] ? "" : " typed"}${char === "\n" ? " end" : ""}`;
  }

  _add(end) {
    const { chars } = this.doc;
    let line = this.lines.at(-1);
    if (!line || line.ended) {
      const block = document.createElement("div");
      block.className = "line";
      if (this.lines.length % TOGETHER === 0) {
        this.group = document.createElement("div");
        this.group.className = "group";
        this.body.append(this.group);
      }
      this.group.append(block);
      line = { block, start: this.done, end: this.done, ended: false };
      block.unroll = line;
      const current = this.stale >= this.lines.length;
      this.lines.push(line);
      if (current) this.stale = this.lines.length;
    }
    const kind = this._kind(this.done);
    let next = this.done + 1;
    while (next < end && chars[next - 1] !== "\n" && this._kind(next) === kind) next++;
    this._append(line, kind, this.done, next);
    line.end = this.done = next;
    line.ended = chars[next - 1] === "\n" || (next - line.start >= LONGEST && /\s/.test(chars[next - 1]))
      || next - line.start >= 2 * LONGEST;
  }

  _append(line, kind, from, to) {
    const text = this.doc.chars.slice(from, to).join("");
    const last = line.block.lastChild;
    if (last && last.className === kind && !kind.endsWith("end")) {
      last.firstChild.appendData(text);
      last.unrollCount += to - from;
      return;
    }
    const run = document.createElement("span");
    run.className = kind;
    run.unrollAt = from;
    run.unrollCount = to - from;
    run.append(document.createTextNode(text));
    line.block.append(run);
  }

  _colour(line) {
    const wanted = [];
    for (let at = line.start; at < line.end; at++) wanted.push(this._kind(at));
    let same = true;
    for (const run of line.block.children) {
      for (let at = run.unrollAt; same && at < run.unrollAt + run.unrollCount; at++) {
        same = wanted[at - line.start] === run.className;
      }
    }
    if (same) return;
    line.block.replaceChildren();
    for (let from = 0; from < wanted.length;) {
      let to = from + 1;
      while (to < wanted.length && wanted[to] === wanted[from]) to++;
      this._append(line, wanted[from], line.start + from, line.start + to);
      from = to;
    }
    if (this.at >= line.start && this.at < line.end) this._mark();
  }

  /** Look at a character; -1 = none. */
  look(at, scroll = false) {
    this.at = at;
    this._mark();
    if (scroll && at >= 0) this.reveal(at);
    this.changed(at);
  }

  /** Scroll until a character is seen. */
  reveal(at) {
    const rect = this.rect(at);
    if (!rect) return;
    const box = this.host.getBoundingClientRect();
    if (rect.top < box.top + MARGIN) this.host.scrollTop -= box.top + MARGIN - rect.top;
    if (rect.bottom > box.bottom - MARGIN) this.host.scrollTop += rect.bottom - box.bottom + MARGIN;
  }

  _mark() {
    const rect = this.at >= 0 ? this.rect(this.at) : null;
    this.mark.hidden = !rect;
    if (!rect) return;
    const box = this.host.getBoundingClientRect();
    this.mark.style.translate =
      `${rect.left - box.left - this.host.clientLeft + this.host.scrollLeft - 1}px ` +
      `${rect.top - box.top - this.host.clientTop + this.host.scrollTop - 1}px`;
    this.mark.style.width = `${Math.max(6, rect.width) + 2}px`;
    this.mark.style.height = `${rect.height + 2}px`;
  }

  _lineOf(at) {
    let low = 0, high = this.lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.lines[middle].start <= at) low = middle;
      else high = middle - 1;
    }
    return this.lines[low];
  }

  /** Where a character is on the screen; null where it is not shown. */
  rect(at) {
    if (at < 0 || at >= this.done) return null;
    for (const run of this._lineOf(at).block.children) {
      if (at < run.unrollAt + run.unrollCount) {
        const before = this.doc.chars.slice(run.unrollAt, at).join("").length;
        const range = document.createRange();
        range.setStart(run.firstChild, before);
        range.setEnd(run.firstChild, before + this.doc.chars[at].length);
        return range.getClientRects()[0] ?? run.getBoundingClientRect();
      }
    }
    return null;
  }

  /** The character at a point of the screen; -1 where there is none. */
  locate(x, y) {
    const caret = document.caretPositionFromPoint?.(x, y);
    const old = caret ? null : document.caretRangeFromPoint?.(x, y);
    const node = caret?.offsetNode ?? old?.startContainer;
    const offset = caret?.offset ?? old?.startOffset;
    const run = node?.nodeType === Node.TEXT_NODE ? node.parentElement : null;
    if (run?.unrollAt === undefined || !this.body.contains(run)) return -1;
    const at = run.unrollAt + Array.from(node.data.slice(0, offset)).length;
    for (const one of [at, at - 1]) {
      const rect = this.rect(one);
      if (rect && x >= rect.left - 1 && x <= rect.right + 1 && y >= rect.top - 3 && y <= rect.bottom + 3) return one;
    }
    return -1;
  }

  _pointed(event) {
    if (event.pointerType === "touch" || event.buttons) return;
    const at = this.locate(event.clientX, event.clientY);
    if (at >= 0 && at !== this.at) this.look(at);
  }

  /** The character a line above (-1) or below (1). */
  beside(at, lines) {
    const rect = this.rect(at);
    if (!rect) return at;
    for (let step = 1; step <= 4; step++) {
      const y = rect.top + rect.height / 2 + lines * step * rect.height * 0.9;
      const found = this.locate(rect.left + rect.width / 2, y);
      if (found >= 0 && Math.sign(found - at) === lines) return found;
    }
    const end = this._lineOf(at);
    return lines < 0 ? Math.max(0, end.start - 1) : Math.min(this.done - 1, end.end);
  }
}
