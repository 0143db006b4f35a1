/** The page: which model, which pictures, which threshold, and what follows from them. */

import { countAbove, csv, decide, number, percent, sentence, steady } from "./decision.js";
import { Histogram } from "./histogram.js";
import { drawThumbnail, droppedFiles, mapBlob, pictureBlob } from "./pictures.js";
import * as service from "./service.js";
import { VERDICTS, Viewer } from "./viewer.js";

const FILES = 8; // in one request
const REQUESTED = 1000; // inspections asked for at a time: the most that today's histogram shows
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
  newest: null, // id of the latest inspection seen
  today: new Map(), // scores by id
  replaced: 0, // pictures hidden because another file of the model scored them
  swapped: "", // when this page saw a new file of the model
};
const tiles = new Map(); // by id
const histogram = new Histogram($("chart"), setThreshold);
const viewer = new Viewer($("viewer"), {
  changed: (item) => dress(item),
  beside(item, step) {
    const items = shown();
    const next = items[items.indexOf(item) + step];
    return next && [next, told(next)];
  },
  closed: (item) => tiles.get(item?.id)?.querySelector("button").focus(),
});

// --- models ----------------------------------------------------------------------------------

async function start() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  await attempt(async () => {
    page.models = await service.models();
    if (!page.models.length) throw new service.ServiceError("The service has no model.");
    $("model").replaceChildren(...page.models.map(({ name }) => new Option(name, name)));
    const name = wanted.get("model");
    $("model").value = page.models.some((model) => model.name === name) ? name : page.models[0].name;
    document.querySelector(`[name=view][value=${wanted.get("view") === "live" ? "live" : "own"}]`).checked = true;
    await changeModel();
  });
}

async function changeModel() {
  const model = page.models.find(({ name }) => name === $("model").value);
  const [calibration, inspections] = await Promise.all([
    service.calibration(model.name),
    service.inspections(model.name, REQUESTED),
  ]);
  Object.assign(page, { model, calibration, threshold: calibration.threshold });
  Object.assign(page, { own: [], live: [], unreadable: [], newest: 0, replaced: 0, today: new Map() });
  receive(inspections);
  changeView();
  describeModel();
}

/** Ask for the models' states; a file that was replaced brings its own calibration. */
async function refreshModels() {
  page.models = await service.models();
  const model = page.models.find(({ name }) => name === page.model.name);
  if (!model) throw new service.ServiceError(`The service no longer has the model ${page.model.name}.`);
  if (model.sha256 !== page.model.sha256) {
    page.swapped = new Date().toLocaleTimeString("sv");
    await changeModel();
  }
  page.model = model;
  describeModel();
}

function describeModel() {
  const { model } = page;
  const colours = model.channels === 1 ? "grey" : "colour";
  $("about").textContent = `${model.method} · ${model.size} px, ${colours} · ${model.precision} · file ${model.sha256.slice(0, 12)}`;
  $("promise").textContent = `Calibrated threshold ${number(model.threshold)}: ${sentence(model.guarantee)}`;
  const notices = [];
  if (model.state === "stale") notices.push(["The model file is not the one in use.", model.words]);
  if (model.drift.state === "left") notices.push(["The stream has left the calibration.", model.drift.words]);
  if (page.swapped) notices.push([`New model file at ${page.swapped}.`, "the threshold is its calibrated one again"]);
  if (model.note) notices.push(["Less than was asked for.", model.note]);
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
  describeSetting();
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
  const known = new Map(page.own.map((item) => [item.id, item]));
  const midnight = new Date().setHours(0, 0, 0, 0);
  page.newest = Math.max(page.newest, ...inspections.map(({ id }) => id));
  const usable = [];
  for (const item of inspections) {
    if (item.score === null) continue;
    // Scores of two files have nothing in common, and this threshold belongs to one of them.
    if (item.model_sha256 !== page.model.sha256) page.replaced++;
    else usable.push(known.get(item.id) ?? item);
  }
  for (const item of usable) if (new Date(item.time) >= midnight) page.today.set(item.id, item.score);
  page.live = [...usable, ...page.live].slice(0, LIVE);
}

async function scoreFiles(files) {
  if (!files.length || !page.model) return;
  changeView("own");
  const progress = $("progress");
  Object.assign(progress, { value: 0, max: files.length, hidden: false });
  for (let i = 0; i < files.length; i += FILES) {
    tell(`Scoring ${i + 1} to ${Math.min(i + FILES, files.length)} of ${files.length} …`);
    const some = files.slice(i, i + FILES);
    const done = await attempt(async () => {
      const results = await service.score(page.model.name, some);
      results.forEach((result, j) => place(result, some[j]));
    });
    if (!done) break;
    progress.value = Math.min(i + FILES, files.length);
    drawAll();
  }
  progress.hidden = true;
  await attempt(refreshModels);
  tell("");
}

function place(result, file) {
  if (result.decision === "error") {
    page.unreadable.push(result);
    return;
  }
  const item = { time: new Date().toISOString(), feedback: null, ...result, file };
  page.own.push(item);
  if (item.model_sha256 === page.model.sha256) page.today.set(item.id, item.score);
}

// --- drawing ---------------------------------------------------------------------------------

function drawAll() {
  const { calibration, model } = page;
  const rows = [
    { label: "Calibration (normal)", kind: "calibration", scores: calibration.scores },
    { label: "Today", kind: "today", scores: [...page.today.values()] },
  ];
  histogram.draw(rows, {
    threshold: page.threshold,
    calibrated: calibration.threshold,
    strict: model.strict_threshold,
  });
  const items = shown();
  const wanted = new Set(items.map(({ id }) => id));
  for (const [id, tile] of tiles) {
    if (wanted.has(id)) continue;
    seen.unobserve(tile);
    tile.remove();
    tiles.delete(id);
  }
  const grid = $("grid");
  items.forEach((item, i) => {
    const tile = tiles.get(item.id) ?? newTile(item);
    // Only what is out of place is moved: moving takes the focus away.
    if (grid.children[i] !== tile) grid.insertBefore(tile, grid.children[i] ?? null);
  });
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

function newTile(item) {
  const tile = $("tile").content.firstElementChild.cloneNode(true);
  tile.querySelector(".name").textContent = item.name;
  tile.querySelector("button").addEventListener("click", () => viewer.open(item, told(item)));
  tile.item = item;
  tiles.set(item.id, tile);
  seen.observe(tile);
  return tile;
}

/** What depends on the threshold or on feedback. */
function dress(item) {
  const tile = tiles.get(item.id);
  if (!tile) return;
  const { decision, threshold } = told(item);
  const times = threshold > 0 ? ` · ${number(item.score / threshold, 3)} × threshold` : "";
  tile.dataset.decision = decision;
  tile.querySelector(".decision").textContent = decision;
  tile.querySelector(".score").textContent = `${number(item.score)}${times}`;
  tile.querySelector(".feedback").textContent = item.feedback ? `marked ${VERDICTS[item.feedback]}` : "";
}

/** Pictures are fetched when they come into view. */
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      fill(target);
    }
  },
  { rootMargin: "300px" },
);

async function fill(tile) {
  try {
    await drawThumbnail(tile.querySelector(".picture"), await pictureBlob(tile.item));
    if (page.model.localizes) await drawThumbnail(tile.querySelector(".heat"), await mapBlob(tile.item));
  } catch (error) {
    tile.querySelector(".words").textContent = error.message;
  }
}

// --- the threshold ---------------------------------------------------------------------------

function told(item) {
  const { strict_threshold: strict, localizes } = page.model;
  return { decision: decide(item.score, page.threshold, strict), threshold: page.threshold, localizes };
}

function setThreshold(value) {
  page.threshold = value;
  describeSetting();
}

function describeSetting() {
  const { calibration, model, threshold } = page;
  const items = shown();
  const above = countAbove(calibration.scores, threshold);
  const rate = percent(calibration.bounds[above]);
  const confidence = `${number(100 * calibration.confidence, 6)} %`;
  const count = (decision) => items.filter((item) => told(item).decision === decision).length;
  const anomalous = `${count("anomalous")} of ${items.length}`;
  $("rate").textContent = rate;
  $("confidence").textContent = confidence;
  $("threshold").textContent = steady(threshold);
  $("above").textContent = `${above} of ${calibration.scores.length}`;
  $("count").textContent = anomalous;
  $("unsure-row").hidden = model.strict_threshold === null;
  $("unsure").textContent = `${count("unsure")} of ${items.length}`;
  $("back").disabled = threshold === calibration.threshold;
  const left = model.drift.state === "left";
  $("bound").classList.toggle("void", left);
  $("holds").textContent = left
    ? "That does not hold now: the stream has left the calibration."
    : "This bound holds for all settings at once, so that one may be chosen by looking.";
  histogram.move(
    threshold,
    `${number(threshold)}, at most ${rate} false alarms with ${confidence} confidence, ${anomalous} pictures anomalous`,
  );
  items.forEach(dress);
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
    const inspections = await service.inspections(model.name, REQUESTED, page.newest);
    if (page.model !== model) return;
    const before = page.live.length;
    receive(inspections);
    if (polls++ % MODELS_EVERY === 0) await refreshModels();
    if (inspections.length || before !== page.live.length) drawAll();
    tellLive();
  });
  clearTimeout(timer);
  if (watching()) timer = setTimeout(poll, 1000 * (done ? PAUSE_S : PAUSE_AFTER_ERROR_S));
}

function tellLive() {
  const latest = page.live[0];
  const last = latest
    ? `The latest ${page.live.length} pictures that this model scored, the last at ${new Date(latest.time).toLocaleTimeString("sv")}.`
    : "No picture yet. Whatever the service scores with this model appears here.";
  const hidden = page.replaced ? ` ${page.replaced} more were scored by another file of this model.` : "";
  tell(`${last}${hidden} Drift: ${sentence(page.model.drift.words)}`);
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
  const columns = "id time name model model_sha256 picture_sha256 score p_value decision latency_ms feedback".split(" ");
  const rows = shown().map((item) => [
    ...columns.map((column) => item[column]),
    page.threshold,
    told(item).decision,
  ]);
  const blob = new Blob([csv([[...columns, "threshold_here", "decision_here"], ...rows])], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${page.model.name}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Arrow keys go from picture to picture. */
function walk(event) {
  const all = [...$("grid").children];
  const here = all.indexOf(event.target.closest("li"));
  const columns = all.filter((tile) => tile.offsetTop === all[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -here, End: all.length - 1 - here };
  const next = all[here + steps[event.key]];
  if (here < 0 || !next || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  next.querySelector("button").focus();
}

$("model").addEventListener("change", () => {
  page.swapped = "";
  attempt(changeModel);
});
$("back").addEventListener("click", () => {
  setThreshold(page.calibration.threshold);
  document.querySelector(".handle").focus(); // a button that just became disabled loses the focus
});
for (const radio of document.querySelectorAll("[name=view]")) radio.addEventListener("change", () => changeView());
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
$("grid").addEventListener("keydown", walk);
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  scoreFiles([...$("files").files]);
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
  scoreFiles(await droppedFiles(event.dataTransfer));
});
$("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  service.keepToken($("token").value);
  $("token").value = "";
  start();
});

start();
