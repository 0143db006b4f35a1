/** Histograms of the calibration's and of today's scores, and the line that is the threshold.
 *
 * Horizontal positions are per cent of the width, vertical ones pixels, so that lettering never
 * scales: the look of the report's charts.
 */

import { number, steady } from "./decision.js";

const BINS = 50;
const REACH = 3; // the axis ends this many times the distance from median to threshold away
const MARGIN = 5; // per cent of the width, set apart for scores beyond the upper end
const LINE = 14; // height of the label of a mark
const TOP = 3 * LINE;
const ROW = 140;
const BAR = 100;
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

export class Histogram {
  /** `moved(threshold)` is called when a person moves the line. */
  constructor(root, moved) {
    this.svg = root.querySelector("svg");
    this.handle = root.querySelector(".handle");
    this.moved = moved;
    this.low = 0;
    this.high = 1;
    this.calibrated = 0;
    this.beyond = 0;
    this.threshold = 0;
    let grip = 0; // from the pointer to the line, so that the line does not jump when it is taken
    this.handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.handle.setPointerCapture(event.pointerId);
      grip = this.#place(this.threshold) - this.#percentAt(event.clientX);
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      const share = (this.#percentAt(event.clientX) + grip) / (100 - this.beyond);
      this.#offer(this.low + share * (this.high - this.low));
    });
    this.handle.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Draw anew. `rows` are `{label, kind, scores, unit}`; the first one sets the width of the axis. */
  draw(rows, { threshold, calibrated, strict }) {
    const marks = [threshold, calibrated, ...(strict === null ? [] : [strict])];
    this.calibrated = calibrated;
    [this.low, this.high] = limits(rows[0].scores, rows.flatMap((row) => row.scores), marks);
    this.beyond = rows.some((row) => row.scores.some((score) => score > this.high)) ? MARGIN : 0;
    const bottom = TOP + ROW * rows.length;
    const parts = [this.svg.querySelector("title"), this.#gradient(strict)];
    for (const tick of ticks(this.low, this.high)) {
      const x = `${this.#place(tick)}%`;
      parts.push(
        element("line", { x1: x, x2: x, y1: bottom, y2: bottom + 5 }),
        element("text", { x, y: bottom + 19, "text-anchor": "middle" }, number(tick, 6)),
      );
    }
    parts.push(element("text", { x: "50%", y: bottom + 37, "text-anchor": "middle" }, "score"));
    rows.forEach((row, i) => parts.push(this.#bars(row, TOP + ROW * (i + 1))));
    const fixed = [["calibrated", calibrated], ...(strict === null ? [] : [["anomalous above", strict]])];
    fixed.forEach(([label, value], i) => parts.push(this.#mark(`${label} ${number(value)}`, value, LINE * i, bottom)));
    parts.push(element("line", { class: "threshold", y1: 2 * LINE, y2: bottom }));
    rows.forEach((row, i) => parts.push(this.#words(row, TOP + ROW * i + 22)));
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute("height", bottom + 42);
    this.svg.querySelector("title").textContent = `Histograms of scores. ${rows
      .map((row) => `${row.label}: ${row.scores.length}`)
      .join(", ")}.`;
    this.handle.style.height = `${bottom}px`;
    this.handle.ariaValueMin = this.low;
    this.handle.ariaValueMax = this.high;
    this.move(threshold, "");
  }

  /** Put the line somewhere; `words` is what a screen reader says of it. */
  move(threshold, words) {
    this.threshold = threshold;
    const at = this.#place(threshold);
    this.handle.style.left = `${at}%`;
    this.handle.dataset.label = steady(threshold);
    this.handle.classList.toggle("left", at > 60);
    this.handle.ariaValueNow = threshold;
    this.handle.ariaValueText = words;
    for (const stop of this.svg.querySelectorAll(".at-threshold")) stop.setAttribute("offset", `${at}%`);
    for (const end of ["x1", "x2"]) this.svg.querySelector(".threshold").setAttribute(end, `${at}%`);
  }

  #key(event) {
    const size = (this.high - this.low) / (event.shiftKey ? 2000 : 200);
    const value =
      event.key === "Home" ? this.low
      : event.key === "End" ? this.high
      : event.key in STEPS ? this.threshold + STEPS[event.key] * size
      : null;
    if (value === null || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.#offer(value);
  }

  #offer(value) {
    this.moved(Math.min(Math.max(value, this.low), this.high));
  }

  #place(value) {
    return ((100 - this.beyond) * (value - this.low)) / (this.high - this.low);
  }

  #percentAt(clientX) {
    const box = this.svg.getBoundingClientRect();
    return (100 * (clientX - box.left)) / box.width;
  }

  /** Today's bars have the colour of their decision: it changes at the line, within a bar too. */
  #gradient(strict) {
    const stop = (kind, side, at = null) =>
      element("stop", { class: at === null ? `${kind} at-threshold` : kind, offset: at ?? "0%", "data-side": side });
    const stops = [stop("normal", "below"), stop(strict === null ? "anomalous" : "unsure", "above")];
    if (strict !== null) {
      // Offsets that fall back are raised to the one before: above `strict` nothing is unsure.
      stops.push(stop("unsure", "below", `${this.#place(strict)}%`), stop("anomalous", "above", `${this.#place(strict)}%`));
    }
    const gradient = element("linearGradient", { id: "decided", gradientUnits: "userSpaceOnUse", x1: "0", x2: "100%" });
    gradient.append(...stops);
    return gradient;
  }

  #bars({ kind, scores }, base) {
    const group = element("g", { class: kind });
    group.append(element("line", { x1: 0, x2: "100%", y1: base, y2: base }));
    const counts = new Array(BINS).fill(0);
    let above = 0;
    for (const score of scores) {
      if (score > this.high) above++;
      // What is below the lower end counts in the first bar: nobody draws a line there.
      else counts[this.#bin(score)]++;
    }
    const peak = Math.max(...counts, above);
    const bar = (count, x, width, name) => {
      const height = (BAR * count) / peak;
      if (count) group.append(element("rect", { class: name, x: `${x}%`, width: `${width}%`, y: base - height, height }));
    };
    const width = (100 - this.beyond) / BINS;
    counts.forEach((count, bin) => bar(count, (bin + 0.04) * width, 0.92 * width, "bar"));
    bar(above, 100 - 0.6 * this.beyond, 0.6 * this.beyond, "bar beyond");
    return group;
  }

  /** Counted from the calibrated threshold, and a score that equals it is left of it. */
  #bin(score) {
    const bins = (value) => (BINS * (value - this.calibrated)) / (this.high - this.low);
    const bin = Math.ceil(bins(score)) - 1 - Math.round(bins(this.low));
    return Math.min(Math.max(bin, 0), BINS - 1);
  }

  #words({ label, scores, unit }, y) {
    const words = element("text", { class: "over", y });
    const count = `${scores.length} ${unit}${scores.length === 1 ? "" : "s"}`;
    words.append(element("tspan", { class: "label" }, label), element("tspan", { dx: 8 }, count));
    const above = scores.filter((score) => score > this.high).length;
    if (above) words.append(element("tspan", { dx: 8 }, `${above} farther out`));
    return words;
  }

  #mark(label, value, y, bottom) {
    const at = this.#place(value);
    const group = element("g");
    const side = at > 60 ? { dx: -6, "text-anchor": "end" } : { dx: 6 };
    group.append(
      element("line", { class: "mark", x1: `${at}%`, x2: `${at}%`, y1: y, y2: bottom }),
      element("text", { x: `${at}%`, y: y + 11, ...side }, label),
    );
    return group;
  }
}

/** Ends of the score axis: all scores, or `REACH` where some are farther out; and some room.
 *
 * `marks` are the threshold, the calibrated one, and others. Bars meet at the calibrated one: one
 * that lay on both sides of it would show its largest scores on the wrong one.
 */
function limits(reference, everything, marks) {
  const centre = reference[reference.length >> 1];
  const ends = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [centre, centre]);
  const [first, last] = ends(reference);
  const span = Math.max((last - first) / 2, ...marks.slice(1).map((mark) => Math.abs(mark - centre)));
  const [least, most] = ends(everything);
  const low = Math.min(Math.max(least, centre - REACH * span), ...marks);
  const high = Math.max(Math.min(most, centre + REACH * span), ...marks);
  const room = 0.04 * (high - low) || 0.5 * Math.abs(high) || 0.5;
  const width = (high - low + 2 * room) / BINS;
  const start = marks[1] - Math.round((marks[1] - low + room) / width) * width;
  return [start, start + BINS * width];
}

/** About five round numbers between the limits. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
