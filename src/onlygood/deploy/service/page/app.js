/** The page: which model, which pictures, which threshold, and what follows from them. */

import { countAbove, csv, decide, number, percent, sentence, steady } from "./decision.js";
import { Grid } from "./grid.js";
import { Histogram } from "./histogram.js";
import * as service from "./service.js";
import { droppedFiles, portions, scored } from "./upload.js";
import { Viewer } from "./viewer.js";

const REQUESTED = 1000; // inspections asked for at a time: the most that the service gives
const LIVE = 120; // pictures of the live stream in the grid
const PAUSE_S = 1.5;
const PAUSE_AFTER_ERROR_S = 5;
const MODELS_EVERY = 6; // polls

const $ = (id) => document.getElementById(id);

const page = {
  models: [],
  model: null,
  calibration: null,
  threshold: 0,
  view: "own",
  own: [], // items: what the service says of a picture, `file` if it was dropped here
  live: [],
  unreadable: [],
  log: "", // which log ids are of
  begun: "", // when this page saw that a log was begun anew
  newest: 0, // id of the latest inspection seen
  today: new Map(), // `{time, score}` by key
  cut: false, // whether the log has more than was asked for
  replaced: 0, // pictures hidden because another file of the model scored them
  swapped: "", // when this page saw a new file of the model
};
const histogram = new Histogram($("chart"), setThreshold);
const grid = new Grid($("grid"), $("tile"), (item) => viewer.open(item, told(item)));
const viewer = new Viewer($("viewer"), {
  changed: (item) => grid.dress(item, told(item)),
  beside(item, step) {
    const items = shown();
    const next = items[items.indexOf(item) + step];
    return next && [next, told(next)];
  },
  closed: (item) => grid.focus(item),
});

// --- models ----------------------------------------------------------------------------------

async function start() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const done = await attempt(async () => {
    page.models = await service.models();
    if (!page.models.length) throw new service.ServiceError("The service has no model.");
    $("model").replaceChildren(...page.models.map(({ name }) => new Option(name, name)));
    const name = wanted.get("model");
    $("model").value = page.models.some((model) => model.name === name) ? name : page.models[0].name;
    const view = wanted.get("view") === "live" ? "live" : "own";
    document.querySelector(`[name=view][value=${view}]`).checked = true;
    await changeModel($("model").value);
    $("main").inert = false;
  });
  // A screen at the line is switched on before the service is.
  if (!done && $("locked").hidden) setTimeout(start, 1000 * PAUSE_AFTER_ERROR_S);
}

/** Take over a model, unless the select names another one by the time the service has answered. */
async function changeModel(name) {
  const model = page.models.find((each) => each.name === name);
  const chosen = () => $("model").value === name;
  let calibration, latest;
  try {
    [calibration, latest] = await Promise.all([
      service.calibration(name),
      service.inspections(name, REQUESTED),
    ]);
  } catch (error) {
    if (!chosen()) return; // nobody waits for it any more
    if (page.model) $("model").value = page.model.name; // what pictures are scored with
    throw error;
  }
  if (!chosen()) return;
  Object.assign(page, { model, calibration, threshold: calibration.threshold });
  Object.assign(page, {
    own: page.own.filter(({ model_sha256: sha256 }) => sha256 === model.sha256),
    live: [],
    unreadable: [],
    log: latest.log,
    newest: 0,
    today: new Map(),
    cut: false,
    replaced: 0,
  });
  receive(latest.inspections);
  changeView();
  describeModel();
}

/** Ask for the models' states; a file that was replaced brings its own calibration. */
async function refreshModels() {
  page.models = await service.models();
  const { name, sha256 } = page.model;
  if ($("model").value !== name) return; // another one is being taken over
  const model = page.models.find((each) => each.name === name);
  if (!model) throw new service.ServiceError(`The service no longer has the model ${name}.`);
  if (model.sha256 === sha256) {
    page.model = model;
  } else {
    page.swapped = new Date().toLocaleTimeString("sv");
    await changeModel(name);
  }
  describeModel();
}

function describeModel() {
  const { model } = page;
  const colours = model.channels === 1 ? "grey" : "colour";
  const file = `file ${model.sha256.slice(0, 12)}`;
  $("about").textContent = [model.method, `${model.size} px, ${colours}`, model.precision, file].join(" · ");
  $("promise").textContent = `Calibrated threshold ${number(model.threshold)}: ${sentence(model.guarantee)}`;
  describeTrouble();
  describeSetting();
}

/** What keeps the promise from holding, or changed it; in the words of the service. */
function describeTrouble() {
  const { model } = page;
  const notices = [];
  if (model.state === "stale") notices.push(["The model file is not the one in use.", model.words]);
  if (model.drift.state === "left") notices.push(["The stream has left the calibration.", model.drift.words]);
  if (page.begun) {
    notices.push([`New inspection log since ${page.begun}.`, "pictures of before are in the old one"]);
  }
  if (page.swapped) {
    notices.push([`New model file at ${page.swapped}.`, "the threshold is its calibrated one again"]);
  }
  if (model.note) notices.push(["Less than was asked for.", model.note]);
  const said = JSON.stringify(notices);
  if ($("notices").dataset.said === said) return; // else a screen reader says it again
  $("notices").dataset.said = said;
  $("notices").replaceChildren(
    ...notices.map(([head, words]) => {
      const notice = document.createElement("p");
      const strong = document.createElement("strong");
      notice.className = "note";
      strong.textContent = head;
      notice.append(strong, ` ${sentence(words)}`);
      return notice;
    }),
  );
}

// --- pictures --------------------------------------------------------------------------------

function shown() {
  const items = page.view === "own" ? page.own : page.live;
  return $("order").value === "score"
    ? items.toSorted((a, b) => b.score - a.score || b.id - a.id)
    : items.toSorted((a, b) => b.id - a.id);
}

/** Take over inspections, newest first. */
function receive(inspections) {
  const known = new Map(page.own.map((item) => [service.keyOf(item), item]));
  const usable = [];
  for (const item of inspections.filter(({ id }) => id > page.newest)) {
    // Scores of two files have nothing in common, and this threshold belongs to one of them.
    if (item.model_sha256 !== page.model.sha256) page.replaced++;
    else usable.push(known.get(service.keyOf(item)) ?? item);
  }
  page.cut ||= inspections.length === REQUESTED;
  page.newest = Math.max(page.newest, ...inspections.map(({ id }) => id));
  usable.forEach(count);
  page.live = [...usable, ...page.live].slice(0, LIVE);
}

let scoring = Promise.resolve();
let changing = Promise.resolve();

/** What is dropped while other pictures are being scored, or the model changes, waits for that. */
function enqueue(files) {
  // What goes wrong with these, whatever it is, is not the next ones'.
  scoring = Promise.allSettled([scoring, changing]).then(() => scoreFiles(files));
}

async function scoreFiles(files) {
  if (!files.length || !page.model) return;
  const { name } = page.model;
  changeView("own");
  const progress = $("progress");
  Object.assign(progress, { value: 0, max: files.length, hidden: false });
  let done = true;
  for (const some of portions(files)) {
    tell(`Scoring ${progress.value + 1} to ${progress.value + some.length} of ${files.length} …`);
    done = await attempt(async () => {
      const results = await scored(name, some);
      if (page.model.name === name) results.forEach((result, i) => place(result, some[i]));
    });
    if (!done || page.model.name !== name) break;
    progress.value += some.length;
    drawAll();
  }
  progress.hidden = true;
  tell("");
  if (done && (await attempt(refreshModels))) {
    tell(`${progress.value} done; shown pictures anomalous: ${$("count").textContent}.`);
  }
}

function place(result, file) {
  if (result.decision === "error") {
    page.unreadable.push(result);
    return;
  }
  const item = { time: new Date().toISOString(), feedback: null, ...result, file };
  page.own.push(item);
  if (item.model_sha256 === page.model.sha256) count(item);
}

function count(item) {
  page.today.set(service.keyOf(item), { time: new Date(item.time), score: item.score });
}

/** What was scored since midnight; a page may stay open for weeks. */
function todaysScores() {
  const midnight = new Date().setHours(0, 0, 0, 0);
  for (const [key, { time }] of page.today) if (time < midnight) page.today.delete(key);
  return [...page.today.values()].map(({ score }) => score);
}

// --- drawing ---------------------------------------------------------------------------------

function drawAll() {
  const { calibration, model } = page;
  const rows = [
    { label: "Calibration (normal)", kind: "calibration", scores: calibration.scores, unit: unit() },
    { label: page.cut ? "Today, the latest" : "Today", kind: "today", scores: todaysScores(), unit: "picture" },
  ];
  histogram.draw(rows, {
    threshold: page.threshold,
    calibrated: calibration.threshold,
    strict: model.strict_threshold,
  });
  const items = shown();
  grid.draw(items, model.localizes);
  const unreadable = page.view === "own" ? page.unreadable : [];
  $("unreadable").hidden = !unreadable.length;
  $("unreadable").querySelector("tbody").replaceChildren(
    ...unreadable.map(({ name, error }) => {
      const line = document.createElement("tr");
      const [head, cell, bdi] = ["th", "td", "bdi"].map((tag) => document.createElement(tag));
      bdi.textContent = name;
      head.append(bdi);
      head.scope = "row";
      cell.textContent = sentence(error.startsWith(`${name}: `) ? error.slice(name.length + 2) : error);
      line.append(head, cell);
      return line;
    }),
  );
  $("export").disabled = !items.length;
  $("clear").hidden = page.view !== "own" || !(items.length || unreadable.length);
  $("scale").hidden = !items.length || !model.localizes || !$("maps").checked;
  describeSetting();
}

// --- the threshold ---------------------------------------------------------------------------

function told(item) {
  const { strict_threshold: strict, localizes } = page.model;
  return { decision: decide(item.score, page.threshold, strict), threshold: page.threshold, localizes };
}

/** What the calibration and its promise count. */
const unit = () => (page.model.grouped ? "part" : "picture");

function setThreshold(value) {
  page.threshold = value;
  describeSetting();
}

function describeSetting() {
  const { calibration, model, threshold } = page;
  const items = shown();
  const above = countAbove(calibration.scores, threshold);
  // Where nobody has chosen by looking, the promise holds; it is the tighter of the two.
  const calibrated = threshold === calibration.threshold;
  const rate = percent(calibrated ? model.promised_fpr : calibration.bounds[above]);
  const confidence = `${number(100 * calibration.confidence, 6)} %`;
  const share = (decision) =>
    `${items.filter((item) => told(item).decision === decision).length} of ${items.length}`;
  const anomalous = share("anomalous");
  $("rate").textContent = rate;
  $("confidence").textContent = confidence;
  $("threshold").textContent = steady(threshold);
  $("unit").textContent = unit();
  $("of-parts").textContent = model.grouped ? " of parts" : "";
  $("above").textContent = `${above} of ${calibration.scores.length}`;
  $("count").textContent = anomalous;
  $("unsure-row").hidden = model.strict_threshold === null;
  $("unsure").textContent = share("unsure");
  $("back").disabled = calibrated;
  const left = model.drift.state === "left";
  $("bound").classList.toggle("void", left);
  $("holds").textContent = left
    ? "That does not hold now: the stream has left the calibration."
    : calibrated
      ? "This is the promise of the calibrated threshold, which was fixed before any picture was seen here."
      : "You choose by looking, so this bound holds for all settings at once. That makes it wider than " +
        `the promise of the calibrated threshold, at most ${percent(model.promised_fpr)}.`;
  const promise = `at most ${rate} false alarms with ${confidence} confidence`;
  histogram.move(threshold, `${number(threshold)}, ${promise}, ${anomalous} pictures anomalous`);
  items.forEach((item) => grid.dress(item, told(item)));
}

// --- the live stream -------------------------------------------------------------------------

let polls = 0;
let timer = 0;

function changeView(view = null) {
  if (view) document.querySelector(`[name=view][value=${view}]`).checked = true;
  page.view = document.querySelector("[name=view]:checked").value;
  const live = page.view === "live";
  $("drop").hidden = live;
  $("pause").hidden = !live;
  $("told").ariaLive = live ? "off" : "polite"; // a stream would never stop talking
  history.replaceState(null, "", `#${new URLSearchParams({ view: page.view, model: page.model.name })}`);
  tell("");
  drawAll();
  clearTimeout(timer);
  if (live) poll();
}

async function poll() {
  clearTimeout(timer);
  const watching = () => page.view === "live" && $("pause").ariaPressed !== "true" && !document.hidden;
  if (!watching()) return;
  const { model } = page;
  const done = await attempt(async () => {
    const { log, inspections } = await service.inspections(model.name, REQUESTED, page.newest);
    if (page.model !== model || !watching()) return; // what comes late is asked for again
    const before = page.live.length;
    if (log === page.log) {
      receive(inspections);
    } else {
      page.begun = new Date().toLocaleTimeString("sv");
      await changeModel(model.name); // its numbers begin at 1 again
    }
    if (polls++ % MODELS_EVERY === 0) await refreshModels();
    if (inspections.length || before !== page.live.length) drawAll();
    tellLive();
  });
  clearTimeout(timer);
  if (watching()) timer = setTimeout(poll, 1000 * (done ? PAUSE_S : PAUSE_AFTER_ERROR_S));
}

function tellLive() {
  const latest = page.live[0];
  const time = latest && new Date(latest.time).toLocaleTimeString("sv");
  const last = latest
    ? `The latest ${page.live.length} pictures that this model scored, the last at ${time}.`
    : "No picture yet. Whatever the service scores with this model appears here.";
  const hidden = page.replaced ? ` ${page.replaced} more were scored by another file of this model.` : "";
  const { state, words } = page.model.drift;
  const drift = state === "left" ? "" : ` Drift: ${sentence(words)}`; // that is said above all else
  tell(`${last}${hidden}${drift}`);
}

// --- words, and what the page's parts do -----------------------------------------------------

/** Whether it worked; if not, the page says why. */
async function attempt(work) {
  try {
    await work();
    $("problem").hidden = $("locked").hidden = true;
    return true;
  } catch (error) {
    if (!(error instanceof service.ServiceError)) throw error;
    $("locked").hidden = error.status !== 401;
    $("problem").textContent = sentence(error.message);
    $("problem").hidden = false;
    return false;
  }
}

function tell(words) {
  if ($("told").textContent !== words) $("told").textContent = words;
}

function exportCsv() {
  const columns = ["id", "time", "name", "model", "model_sha256", "picture_sha256"];
  columns.push("score", "p_value", "decision", "latency_ms", "feedback");
  const rows = shown().map((item) => [
    ...columns.map((column) => item[column]),
    page.threshold,
    told(item).decision,
  ]);
  const head = [...columns, "threshold_here", "decision_here"];
  const blob = new Blob([csv([head, ...rows])], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${page.model.name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // some browsers read it late
}

$("model").addEventListener("change", () => {
  page.swapped = "";
  changing = attempt(() => changeModel($("model").value));
});
$("back").addEventListener("click", () => {
  setThreshold(page.calibration.threshold);
  document.querySelector(".handle").focus(); // a button that just became disabled loses the focus
});
for (const radio of document.querySelectorAll("[name=view]")) {
  radio.addEventListener("change", () => changeView());
}
$("order").addEventListener("change", drawAll);
$("maps").addEventListener("change", () => {
  $("grid").classList.toggle("bare", !$("maps").checked);
  drawAll();
});
$("pause").addEventListener("click", () => {
  $("pause").ariaPressed = String($("pause").ariaPressed !== "true");
  poll();
});
document.addEventListener("visibilitychange", poll);
$("clear").addEventListener("click", () => {
  Object.assign(page, { own: [], unreadable: [] });
  drawAll();
  $("choose").focus();
});
$("export").addEventListener("click", exportCsv);
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  enqueue([...$("files").files]);
  $("files").value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  enqueue(await droppedFiles(event.dataTransfer));
});
$("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  service.keepToken($("token").value);
  $("token").value = "";
  start();
});

start();
