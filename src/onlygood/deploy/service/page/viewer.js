/** One picture in full resolution, its map and figures, and what a person says of it. */

import { number, sentence } from "./decision.js";
import { mapBlob, pictureBlob, quietMap } from "./pictures.js";
import { giveFeedback } from "./service.js";

export const VERDICTS = { correct: "correct", false_alarm: "false alarm", miss: "miss" };

export class Viewer {
  /** `changed(item)` after feedback; `beside(item, step)` is the neighbour in the grid, if any. */
  constructor(dialog, { changed, beside, closed }) {
    this.dialog = dialog;
    this.part = (selector) => dialog.querySelector(selector);
    this.changed = changed;
    this.beside = beside;
    this.item = null;
    this.urls = [];
    const opacity = this.part(".opacity input");
    opacity.addEventListener("input", () => {
      this.part(".heat").style.opacity = opacity.value / 100;
      opacity.ariaValueText = `${opacity.value} %`;
    });
    this.part(".size").addEventListener("click", () => this.#actualSize(!this.#isActualSize()));
    this.part(".close").addEventListener("click", () => dialog.close());
    this.part(".previous").addEventListener("click", () => this.#go(-1));
    this.part(".next").addEventListener("click", () => this.#go(1));
    this.part(".verdicts").addEventListener("submit", (event) => event.preventDefault());
    this.part(".verdicts .buttons").addEventListener("click", (event) => {
      if (event.target.value) this.#judge(event.target.value);
    });
    dialog.addEventListener("close", () => {
      const item = this.item;
      this.item = null;
      this.#forget();
      closed(item);
    });
  }

  /** Show an item; `told` is what the page says of it: `{decision, threshold, localizes}`. */
  open(item, told) {
    this.item = item;
    this.told = told;
    this.part("h2 bdi").textContent = item.name;
    this.part(".said").textContent = "";
    this.part("[name=comment]").value = "";
    this.part(".opacity").hidden = !told.localizes;
    this.#describe();
    this.#actualSize(false);
    this.part(".previous").disabled = !this.beside(item, -1);
    this.part(".next").disabled = !this.beside(item, 1);
    if (!this.dialog.open) this.dialog.showModal();
    this.#load(item);
  }

  async #load(item) {
    this.#forget();
    const [photo, heat, words] = [this.part(".photo"), this.part(".heat"), this.part(".words")];
    words.textContent = "Loading …";
    this.part(".whole").hidden = true;
    try {
      const whole = await pictureBlob(item);
      if (this.item !== item) return;
      photo.src = this.#url(whole);
      photo.alt = `Picture ${item.name}`;
      if (this.told.localizes) {
        const map = await mapBlob(item);
        const quiet = await quietMap(map);
        if (this.item !== item) return;
        const normal = this.told.decision === "normal";
        this.part(".whole").hidden = normal || quiet.region;
        heat.src = this.#url(normal ? quiet.blob : map);
        heat.alt = `Heat map of ${item.name}`;
      }
      words.textContent = "";
    } catch (error) {
      if (this.item === item) words.textContent = error.message;
    }
  }

  #describe() {
    const { item, told } = this;
    const decision = this.part(".decision");
    decision.textContent = `${told.decision} at this setting`;
    decision.dataset.decision = told.decision;
    const rows = {
      "Score": number(item.score),
      "Threshold here": number(told.threshold),
      "p": number(item.p_value, 2),
      ...Object.fromEntries(Object.entries(item.parts ?? {}).map(([name, value]) => [`Part ${name}`, number(value)])),
      "Scored": new Date(item.time).toLocaleString("sv"),
      "Took": `${number(item.latency_ms, 3)} ms`,
      "Picture": item.width ? `${item.width} × ${item.height} pixels` : "",
      "Number": String(item.id),
      "Digest": item.picture_sha256.slice(0, 12),
    };
    const lines = Object.entries(rows).filter(([, value]) => value).map(([name, value]) => {
      const line = document.createElement("tr");
      const [head, cell] = [document.createElement("th"), document.createElement("td")];
      head.scope = "row";
      head.textContent = name;
      cell.textContent = value;
      line.append(head, cell);
      return line;
    });
    this.part("tbody").replaceChildren(...lines);
    this.part(".asked").textContent = `The service decided: ${item.decision}. That is`;
    for (const button of this.dialog.querySelectorAll(".verdicts button")) {
      // What was called normal can only be a miss, anything else only a false alarm.
      button.hidden = button.value === (item.decision === "normal" ? "false_alarm" : "miss");
      button.ariaPressed = String(item.feedback === button.value);
    }
  }

  async #judge(verdict) {
    const item = this.item;
    let words;
    try {
      await giveFeedback(item, verdict, this.part("[name=comment]").value.trim());
      item.feedback = verdict;
      this.changed(item);
      words = `Noted: ${VERDICTS[verdict]}.`;
    } catch (error) {
      words = `Not noted. ${sentence(error.message)}`;
    }
    if (this.item !== item) return;
    this.#describe();
    this.part(".said").textContent = words;
  }

  #go(step) {
    const next = this.beside(this.item, step);
    if (next) this.open(...next);
  }

  #isActualSize() {
    return this.part(".size").ariaPressed === "true";
  }

  #actualSize(wanted) {
    this.part(".size").ariaPressed = String(wanted);
    this.part(".stage").classList.toggle("actual", wanted);
  }

  #url(blob) {
    this.urls.push(URL.createObjectURL(blob));
    return this.urls.at(-1);
  }

  #forget() {
    for (const image of [this.part(".photo"), this.part(".heat")]) {
      image.removeAttribute("src");
      image.alt = "";
    }
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  }
}
