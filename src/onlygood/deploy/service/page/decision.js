/** Decisions, what they promise, and how both are written, as `onlygood.decision` has them. */

/** `normal`, `unsure` (where there is a strict threshold above this one) or `anomalous`. */
export function decide(score, threshold, strict) {
  if (!(score > threshold)) return "normal";
  return score > (strict ?? threshold) ? "anomalous" : "unsure";
}

/** How many of the ascending scores are above the threshold. */
export function countAbove(ascending, threshold) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > threshold) high = middle;
    else low = middle + 1;
  }
  return ascending.length - low;
}

/** A promised share, 0.05 as `5 %`: three digits, never rounded down. */
export function percent(share) {
  if (!(share > 0)) return "0 %";
  const value = Number((100 * share).toPrecision(9)); // 100 * 0.07 is a little more than 7
  const step = 10 ** (Math.floor(Math.log10(value)) - 2);
  return `${Number((Math.ceil(value / step - 1e-6) * step).toPrecision(3))} %`;
}

/** A number for reading. */
export const number = (value, digits = 4) =>
  Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "n/a";

/** The same with all its digits, for figures that change in place. */
export const steady = (value, digits = 4) =>
  Number.isFinite(value) ? value.toPrecision(digits) : "n/a";

/** With a capital first letter and a full stop; no line ends before a per cent sign. */
export const sentence = (text) =>
  text &&
  text[0].toUpperCase() + text.slice(1).replace(/(\d) %/g, "$1\u00a0%") + (/[.!?]$/.test(text) ? "" : ".");

/** RFC 4180. A text that a spreadsheet would run as a formula gets an apostrophe in front. */
export function csv(rows) {
  const cell = (value) => {
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value ?? "") ? `'${value}` : (value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}
