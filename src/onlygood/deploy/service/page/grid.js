/** The grid of pictures: small copies, decisions, and the way through it by keyboard. */

import { number, sentence } from "./decision.js";
import { drawThumbnail, mapBlob, pictureBlob, quietMap } from "./pictures.js";
import { keyOf } from "./service.js";
import { VERDICTS } from "./viewer.js";

export class Grid {
  /** `opened(item)` is called when a person asks for one. */
  constructor(list, template, opened) {
    this.list = list;
    this.template = template;
    this.opened = opened;
    this.tiles = new Map(); // by key
    this.localizes = false;
    // Pictures are fetched when they come near the view.
    this.seen = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          this.seen.unobserve(target);
          this.#fill(target);
        }
      },
      { rootMargin: "300px" },
    );
    list.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** Show these items, in this order. */
  draw(items, localizes) {
    this.localizes = localizes;
    const wanted = new Set(items.map(keyOf));
    for (const [key, tile] of this.tiles) {
      if (wanted.has(key)) continue;
      this.seen.unobserve(tile);
      tile.remove();
      this.tiles.delete(key);
    }
    items.forEach((item, i) => {
      const tile = this.tiles.get(keyOf(item)) ?? this.#made(item);
      // Only what is out of place is moved: moving takes the focus away.
      const there = this.list.children[i] ?? null;
      if (there !== tile) this.list.insertBefore(tile, there);
    });
  }

  /** Say what depends on the threshold or on feedback. */
  dress(item, { decision, threshold }) {
    const tile = this.tiles.get(keyOf(item));
    if (!tile) return;
    const times = threshold > 0 ? ` · ${number(item.score / threshold, 3)} × threshold` : "";
    tile.dataset.decision = decision;
    tile.querySelector(".decision").textContent = decision;
    tile.querySelector(".score").textContent = `${number(item.score)}${times}`;
    tile.querySelector(".feedback").textContent = item.feedback ? `marked ${VERDICTS[item.feedback]}` : "";
  }

  focus(item) {
    if (item) this.tiles.get(keyOf(item))?.querySelector("button").focus();
  }

  #made(item) {
    const tile = this.template.content.firstElementChild.cloneNode(true);
    tile.querySelector(".name").textContent = item.name;
    tile.querySelector("button").addEventListener("click", () => this.opened(item));
    tile.item = item;
    this.tiles.set(keyOf(item), tile);
    this.seen.observe(tile);
    return tile;
  }

  async #fill(tile) {
    try {
      await drawThumbnail(tile.querySelector(".picture"), await pictureBlob(tile.item));
      if (!this.localizes) return;
      const map = await mapBlob(tile.item);
      const quiet = await quietMap(map);
      await drawThumbnail(tile.querySelector(".heat"), map);
      await drawThumbnail(tile.querySelector(".quiet"), quiet.blob);
      tile.dataset.foundIn = quiet.region ? "region" : "whole picture";
    } catch (error) {
      tile.querySelector(".words").textContent = sentence(error.message);
    }
  }

  #walk(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const all = [...this.list.children];
    const here = all.indexOf(event.target.closest("li"));
    const columns = all.filter(({ offsetTop }) => offsetTop === all[0].offsetTop).length;
    const places = {
      ArrowLeft: here - 1,
      ArrowRight: here + 1,
      ArrowUp: here - columns,
      ArrowDown: here + columns,
      Home: 0,
      End: all.length - 1,
    };
    const next = all[places[event.key]];
    if (!next) return;
    event.preventDefault();
    next.querySelector("button").focus();
  }
}
