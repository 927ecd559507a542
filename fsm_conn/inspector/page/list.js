// The list of machines: filtered, sorted, and of thousands only those made into elements that are in sight.

import { el, text } from "./dom.js";
import { look } from "./looks.js";
import { stay } from "./times.js";

const HEIGHT = 52; // pixels of a line
const SPARE = 6; // lines made beyond those in sight
const SORT_EVERY = 500; // milliseconds between two sortings of what changes all the time
const MOST_STATES = 12;

export class List {
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    this.box = document.getElementById("list");
    this.filter = document.getElementById("filter");
    this.sort = document.getElementById("sort");
    this.states = document.getElementById("states");
    this.none = document.getElementById("none");
    this.space = el("div", { class: "space", role: "presentation" });
    this.box.append(this.space);
    this.lines = [];
    this.shown = [];
    this.only = null;
    this.sortedAt = 0;
    this.version = -1;
    this.chips = new Map();
    this.filter.addEventListener("input", () => this.again());
    this.sort.addEventListener("change", () => this.again());
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => {
      const line = event.target.closest("[role=option]");
      if (line) this.choose(line.dataset.key);
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); this.filter.focus(); }
    });
  }

  again() {
    this.sortedAt = 0;
    this.version = -1;
    this.update();
  }

  // Take in what changed. Sorting thousands is done twice a second at most.
  update() {
    const at = performance.now();
    if (this.version !== this.model.version && at - this.sortedAt >= SORT_EVERY) {
      this.sortedAt = at;
      this.version = this.model.version;
      this.order();
    }
    this.draw();
  }

  order() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = new Map();
    const found = [];
    for (const machine of this.model.machines.values()) {
      counts.set(machine.state, (counts.get(machine.state) ?? 0) + 1);
      if (this.only !== null && machine.state !== this.only) continue;
      if (words.length && !words.every((word) => this.has(machine, word))) continue;
      found.push(machine);
    }
    found.sort(ORDERS[this.sort.value] ?? ORDERS.name);
    this.shown = found;
    this.space.style.height = `${found.length * HEIGHT}px`;
    this.showStates(counts);
    const all = this.model.machines.size;
    this.none.hidden = found.length > 0;
    text(this.none, all ? "No machine fits." : "No machine is watched yet.");
    const more = this.model.leftOut ? `, ${this.model.leftOut} more not shown` : "";
    text(document.getElementById("total"), `${found.length === all ? "" : `${found.length} of `}${all} ${all === 1 ? "machine" : "machines"}${more}`);
  }

  has(machine, word) {
    return machine.text.includes(word) || machine.state.toLowerCase().includes(word) || (machine.reason ?? "").toLowerCase().includes(word);
  }

  showStates(counts) {
    if (this.only !== null && !counts.has(this.only)) counts.set(this.only, 0);
    const most = [...counts].sort((a, b) => a[0].localeCompare(b[0])).slice(0, MOST_STATES);
    const kept = new Set(most.map(([state]) => state));
    for (const [state, chip] of this.chips) if (!kept.has(state)) { chip.remove(); this.chips.delete(state); }
    for (const [state, count] of most) {
      let chip = this.chips.get(state);
      if (!chip) {
        chip = el("button", { type: "button", class: "chip", on: { click: () => this.keep(state) } },
          el("span", { class: "sign", "aria-hidden": "true" }, look(state).sign), el("bdi", {}, state), el("b", {}));
        chip.style.setProperty("--c", look(state).colour);
        this.chips.set(state, chip);
        this.states.append(chip);
      }
      text(chip.lastChild, String(count));
      chip.setAttribute("aria-pressed", String(this.only === state));
    }
  }

  keep(state) {
    this.only = this.only === state ? null : state;
    this.again();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(this.shown.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
    while (this.lines.length < last - first) this.lines.push(this.line());
    this.lines.forEach((line, place) => {
      const machine = first + place < last ? this.shown[first + place] : null;
      line.element.hidden = machine === null;
      if (machine) this.fill(line, machine, first + place);
    });
    const chosen = this.shown.findIndex((machine) => machine.key === this.model.chosen);
    if (chosen >= first && chosen < last) this.box.setAttribute("aria-activedescendant", `line-${this.model.chosen}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  line() {
    const line = { sign: el("span", { class: "sign", "aria-hidden": "true" }), name: el("bdi", { class: "name" }),
      state: el("bdi", { class: "state" }), stay: el("span", { class: "stay" }), more: el("bdi", { class: "more" }) };
    line.element = el("div", { class: "line", role: "option" }, line.sign, line.name, line.stay,
      el("span", { class: "below" }, line.state, line.more));
    this.space.append(line.element);
    return line;
  }

  fill(line, machine, place) {
    const { element } = line;
    const looks = look(machine.state);
    if (element.dataset.key !== machine.key) { element.dataset.key = machine.key; element.id = `line-${machine.key}`; }
    const top = `translateY(${place * HEIGHT}px)`;
    if (element.style.transform !== top) element.style.transform = top;
    element.setAttribute("aria-setsize", this.shown.length);
    element.setAttribute("aria-posinset", place + 1);
    element.setAttribute("aria-selected", String(machine.key === this.model.chosen));
    element.classList.toggle("inner", machine.parent !== null);
    if (line.of !== machine.state) {
      line.of = machine.state;
      element.style.setProperty("--c", looks.colour);
      text(line.sign, looks.sign);
      text(line.state, machine.state);
    }
    text(line.name, machine.name);
    text(line.stay, stay(this.model.stayOf(machine)));
    const attempt = machine.attempt > 1 ? ` · attempt ${machine.attempt}` : "";
    text(line.more, `${attempt} · ${machine.klass}${machine.reason ? ` · ${machine.reason}` : ""}`);
  }

  key(event) {
    const here = this.shown.findIndex((machine) => machine.key === this.model.chosen);
    const page = Math.max(1, Math.floor(this.box.clientHeight / HEIGHT) - 1);
    const there = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: this.shown.length - 1, PageDown: here + page, PageUp: here - page }[event.key];
    if (event.key === "Enter" && here >= 0) { event.preventDefault(); this.choose(this.shown[here].key, true); return; }
    if (there === undefined || !this.shown.length) return;
    event.preventDefault();
    const place = Math.min(this.shown.length - 1, Math.max(0, there));
    this.choose(this.shown[place].key, false);
    this.reveal(place);
  }

  reveal(place) {
    const top = place * HEIGHT;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + HEIGHT > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + HEIGHT - this.box.clientHeight;
    this.draw();
  }
}

const names = new Intl.Collator(undefined, { numeric: true });
const byName = (a, b) => names.compare(a.name, b.name) || names.compare(a.key, b.key);
const ORDERS = {
  name: byName,
  state: (a, b) => names.compare(a.state, b.state) || byName(a, b),
  since: (a, b) => (b.since ?? -Infinity) - (a.since ?? -Infinity) || byName(a, b),
  changes: (a, b) => b.count - a.count || byName(a, b),
  attempt: (a, b) => b.attempt - a.attempt || byName(a, b),
};
