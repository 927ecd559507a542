// The diagram of the chosen machine: the picture that the process draws of its table, with the present state lit and the
// way that led there; or, where there is no picture, a board with a card for each state.

import { el, name, text } from "./dom.js";
import { get } from "./feed.js";
import { look } from "./looks.js";

const TRAIL = 4; // transitions that are shown as the way

export class Diagram {
  constructor(model) {
    this.model = model;
    this.detail = "triggers";
    this.zoom = 0; // 0: as large as fits
    this.picture = null;
    this.asked = 0;
    this.known = new Map();
    this.frame = el("div", { class: "frame", tabindex: 0, role: "region", "aria-label": "Diagram" });
    this.why = el("p", { class: "hint", hidden: true });
    const detail = el("select", { "aria-label": "How much the diagram shows", on: { change: () => { this.detail = detail.value; this.load(); } } },
      ...[["states", "states"], ["triggers", "triggers"], ["full", "everything"], ["board", "board"]].map(([value, words]) => el("option", { value, selected: value === this.detail }, words)));
    const button = (words, label, by) => el("button", { type: "button", "aria-label": label, on: { click: () => this.scale(by) } }, words);
    this.element = el("div", { class: "diagram" },
      el("div", { class: "tools" }, detail, button("−", "Smaller", 1 / 1.25), button("+", "Larger", 1.25), button("Fit", "As large as fits", 0)),
      this.frame, this.why);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.load());
    document.addEventListener("themed", () => this.load());
  }

  async load() {
    const asked = ++this.asked;
    const machine = this.model.machine;
    const chart = this.model.chart;
    if (!machine || !chart) return;
    this.zoom = 0;
    this.why.hidden = true;
    if (this.detail === "board") { this.board(chart); return; }
    const theme = getComputedStyle(document.documentElement).getPropertyValue("--theme").trim();
    const kept = `${machine.klass}/${theme}/${this.detail}/${JSON.stringify(chart).length}`;
    try {
      let svg = this.known.get(kept);
      if (!svg) {
        const answer = await get(`api/picture?of=${encodeURIComponent(machine.key)}&theme=${theme}&detail=${this.detail}`);
        if (!answer.ok) throw new Error(await answer.text());
        if (!answer.headers.get("content-type").includes("svg")) throw new Error((await answer.json()).error);
        svg = await answer.text();
        if (this.known.size > 20) this.known.clear();
        this.known.set(kept, svg);
      }
      if (asked === this.asked) this.show(svg);
    } catch (error) {
      if (asked !== this.asked) return;
      this.board(chart);
      text(this.why, `Shown as a board: ${error.message}`);
      this.why.hidden = false;
    }
  }

  show(svg) {
    const drawn = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (drawn.tagName !== "svg") throw new Error("the picture cannot be read");
    for (const each of drawn.querySelectorAll("script, foreignObject, a, style")) each.remove();
    this.width = parseFloat(drawn.getAttribute("width")) * 4 / 3;
    this.height = parseFloat(drawn.getAttribute("height")) * 4 / 3;
    drawn.removeAttribute("width");
    drawn.removeAttribute("height");
    this.picture = document.importNode(drawn, true);
    this.places = new Map();
    for (const each of this.picture.querySelectorAll(".fsm-state")) {
      const title = each.querySelector("title")?.textContent;
      if (title !== undefined) this.places.set(title, each);
    }
    this.frame.replaceChildren(this.picture);
    this.fit();
    this.lit = null;
    this.light();
  }

  board(chart) {
    this.picture = null;
    this.places = new Map();
    const cards = chart.states.map((state) => {
      const rows = chart.rows.filter((row) => row.sources.includes(state.name));
      const card = el("li", { class: "card" },
        el("h3", {}, el("span", { class: "sign", "aria-hidden": "true" }, look(state.name).sign), name(state.name)),
        state.activity ? el("p", { class: "hint" }, "runs ", name(state.activity)) : null,
        el("ul", {}, ...rows.map((row) => el("li", {}, name(row.trigger), row.dest === null ? " (stays)" : " → ", row.dest === null ? null : name(row.dest)))));
      card.style.setProperty("--c", look(state.name).colour);
      this.places.set(state.name, card);
      return card;
    });
    this.frame.replaceChildren(el("ul", { class: "board", "aria-label": "States" }, ...cards));
    this.lit = null;
    this.light();
  }

  fit() {
    if (!this.picture) return;
    const fits = Math.min((this.frame.clientWidth - 2) / this.width, Math.max(this.frame.clientHeight - 2, 420) / this.height);
    const scale = this.zoom || Math.min(1.1, Math.max(0.6, fits)); // smaller than this nobody can read it
    this.picture.style.width = `${Math.round(this.width * scale)}px`;
    this.picture.style.height = `${Math.round(this.height * scale)}px`;
  }

  scale(by) {
    if (!this.picture) return;
    this.zoom = by ? Math.min(4, Math.max(0.2, (this.zoom || this.picture.clientWidth / this.width) * by)) : 0;
    this.fit();
  }

  // Light the present state and the way to it.
  light() {
    const machine = this.model.machine;
    if (!machine || !this.places) return;
    const stamp = `${machine.state}/${this.model.entries.at(-1)?.number ?? 0}`;
    if (this.lit === stamp) return;
    this.lit = stamp;
    const root = this.frame;
    for (const each of root.querySelectorAll(".lit")) { each.classList.remove("lit"); each.removeAttribute("aria-current"); }
    for (const each of root.querySelectorAll("[data-trail]")) delete each.dataset.trail;
    const here = this.places.get(machine.state);
    if (here) {
      here.classList.add("lit");
      here.setAttribute("aria-current", "true");
      here.style.setProperty("--c", look(machine.state).colour);
      this.reveal(here);
    }
    if (this.picture) this.trail();
  }

  trail() {
    const ways = this.model.entries.slice(-60).filter((entry) => !entry.internal).slice(-TRAIL).reverse();
    ways.forEach((entry, age) => {
      for (const each of this.rowsOf(entry)) if (each.dataset.trail === undefined) each.dataset.trail = String(age);
    });
  }

  rowsOf(entry) {
    const found = [];
    this.model.chart.rows.forEach((row, place) => {
      if (row.trigger !== entry.trigger || row.dest !== entry.dest || !row.sources.includes(entry.source)) return;
      const all = [...this.picture.querySelectorAll(`.row-${place}`)];
      const own = all.filter((each) => each.id.replace(/-(from|to)$/, "").endsWith(`-${entry.source}`));
      found.push(...(own.length ? own : all));
    });
    return found;
  }

  // Bring the lit state in sight, in a diagram that is larger than its frame, unless somebody reads another part of it.
  reveal(here) {
    if (this.frame.matches(":hover, :focus")) return;
    const box = this.frame.getBoundingClientRect();
    const its = here.getBoundingClientRect();
    if (its.top < box.top || its.bottom > box.bottom) this.frame.scrollTop += its.top - box.top - (box.height - its.height) / 2;
    if (its.left < box.left || its.right > box.right) this.frame.scrollLeft += its.left - box.left - (box.width - its.width) / 2;
  }
}
