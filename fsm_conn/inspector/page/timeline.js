// The states of the chosen machine as bars over time. What is told here is in the table of transitions, too.

import { el, name, text } from "./dom.js";
import { colourOf, look } from "./looks.js";
import { clockTime, span } from "./times.js";

const BAR = 30;
const TOP = 14;
const HEIGHT = 66;
const LEAST = 0.005; // seconds that are shown at least
const MOST = 7 * 86400;

export class Timeline {
  constructor(model) {
    this.model = model;
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Timeline: states as bars over time. Arrow keys move, plus and minus zoom, Home goes back to now.", height: HEIGHT });
    this.words = el("p", { class: "words", role: "status" }, "Click a bar to see what ended the state before it.");
    const button = (words, label, act) => el("button", { type: "button", "aria-label": label, on: { click: act } }, words);
    this.live = button("Now", "Follow what happens now", () => this.follow());
    this.element = el("div", { class: "timeline" }, this.canvas,
      el("div", { class: "tools" }, button("−", "Zoom out", () => this.zoom(1.6)), button("+", "Zoom in", () => this.zoom(1 / 1.6)), button("All", "Show all that is known", () => this.all()), this.live, this.words));
    this.forget();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move(event.deltaX / this.canvas.clientWidth);
      else this.zoom(1.0015 ** event.deltaY, event.offsetX / this.canvas.clientWidth);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => { this.held = { x: event.clientX, moved: 0 }; this.canvas.setPointerCapture(event.pointerId); });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      const by = event.clientX - this.held.x;
      this.held.x = event.clientX;
      this.held.moved += Math.abs(by);
      if (this.held.moved > 3) this.move(-by / this.canvas.clientWidth);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (this.held && this.held.moved <= 3) this.pick(event.offsetX / this.canvas.clientWidth);
      this.held = null;
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  forget() {
    this.width = 60; // seconds in sight
    this.end = null; // the right edge; null: now
    this.chosen = null;
    this.sized = false;
    text(this.words, "Click a bar to see what ended the state before it.");
  }

  get edge() {
    return this.end ?? this.model.nowFor(this.model.machine);
  }

  get first() {
    const entry = this.model.entries[0];
    return entry ? entry.at - entry.dwell : this.edge - 1;
  }

  zoom(by, where = 1) {
    const at = this.edge - this.width * (1 - where);
    this.width = Math.min(MOST, Math.max(LEAST, this.width * by));
    if (this.end !== null || where < 0.98) this.set(at + this.width * (1 - where));
    this.draw();
  }

  move(share) {
    this.set(this.edge + share * this.width);
    this.draw();
  }

  set(end) {
    const now = this.model.nowFor(this.model.machine);
    this.end = end >= now ? null : Math.max(end, this.first + this.width * 0.1);
  }

  follow() {
    this.end = null;
    this.draw();
  }

  all() {
    this.end = null;
    this.width = Math.min(MOST, Math.max(1, (this.edge - this.first) * 1.02));
    this.draw();
  }

  key(event) {
    const acts = { ArrowLeft: () => this.move(-0.15), ArrowRight: () => this.move(0.15), "+": () => this.zoom(1 / 1.6), "=": () => this.zoom(1 / 1.6), "-": () => this.zoom(1.6), Home: () => this.follow(), Enter: () => this.pick(1) };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  // The states in sight, each with its beginning, its end and the transition that began it.
  bars() {
    const machine = this.model.machine;
    const entries = this.model.entries;
    const now = this.model.nowFor(machine);
    const found = [];
    let until = now;
    let state = entries.length ? entries.at(-1).dest : machine.state;
    for (let place = entries.length - 1; place >= 0; place--) {
      const entry = entries[place];
      if (entry.internal) continue;
      found.push({ state, from: entry.at, until, by: entry });
      if (entry.at < this.edge - this.width) return found;
      until = entry.at;
      state = entry.source;
    }
    const first = entries[0];
    found.push({ state, from: first ? until - (first.internal ? first.dwell : entryDwell(entries, until)) : machine.since ?? now - this.width, until, by: null });
    return found;
  }

  draw() {
    const machine = this.model.machine;
    const width = this.canvas.clientWidth;
    if (!machine || !width) return;
    if (!this.sized && this.model.entries.length) {
      this.sized = true;
      this.width = Math.min(600, Math.max(10, (this.edge - this.first) * 1.05));
    }
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(HEIGHT * ratio)) this.canvas.height = Math.round(HEIGHT * ratio);
    const styles = getComputedStyle(document.documentElement);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, HEIGHT);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const x = (at) => width - ((this.edge - at) / this.width) * width;
    this.grid(pen, styles, width, x, machine);
    const bars = this.bars();
    let coarse = null; // of many that are thinner than a pixel, one is drawn
    for (const bar of bars) {
      const left = Math.max(-2, x(bar.from));
      const right = Math.min(width + 2, x(bar.until));
      if (right < 0 || left > width) continue;
      if (right - left < 0.5 && coarse === Math.round(left)) continue;
      coarse = right - left < 0.5 ? Math.round(left) : null;
      this.bar(pen, styles, bar, left, Math.max(1, right - left));
    }
    this.live.setAttribute("aria-pressed", String(this.end === null));
  }

  bar(pen, styles, bar, left, width) {
    pen.fillStyle = colourOf(bar.state, styles);
    pen.fillRect(left, TOP, width, BAR);
    if (bar.by && bar.by === this.chosen) {
      pen.strokeStyle = styles.getPropertyValue("--ink");
      pen.lineWidth = 2;
      pen.strokeRect(left + 1, TOP + 1, Math.max(1, width - 2), BAR - 2);
    }
    if (bar.by?.reason) {
      pen.fillStyle = styles.getPropertyValue("--bad");
      pen.beginPath();
      pen.moveTo(left - 4, TOP - 9); pen.lineTo(left + 4, TOP - 9); pen.lineTo(left, TOP - 2);
      pen.fill();
    }
    if (width > 2) { pen.fillStyle = styles.getPropertyValue("--paper"); pen.fillRect(left, TOP, 1, BAR); }
    const words = `${look(bar.state).sign} ${bar.state}`;
    if (width > 26) {
      pen.save();
      pen.beginPath(); pen.rect(left + 4, TOP, width - 8, BAR); pen.clip();
      pen.fillStyle = styles.getPropertyValue("--on-colour");
      pen.fillText(width > 60 ? words.slice(0, 60) : look(bar.state).sign, left + 7, TOP + BAR / 2 + 1);
      pen.restore();
    }
  }

  grid(pen, styles, width, x, machine) {
    const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];
    const step = steps.find((each) => (each / this.width) * width > 76) ?? 172800;
    const shift = machine.kind === "replay" ? -this.model.clocks.replay.begin % step : this.model.hello.wall % step;
    pen.fillStyle = styles.getPropertyValue("--dim");
    pen.strokeStyle = styles.getPropertyValue("--line");
    for (let at = Math.ceil((this.edge - this.width + shift) / step) * step - shift; at <= this.edge; at += step) {
      const place = Math.round(x(at)) + 0.5;
      pen.beginPath(); pen.moveTo(place, TOP - 4); pen.lineTo(place, TOP + BAR + 6); pen.stroke();
      const wall = this.model.wallOf(machine, at);
      pen.fillText(wall === null ? span(at - this.model.clocks.replay.begin) : clockTime(wall).slice(step < 1 ? 3 : 0, step < 1 ? 12 : 8), Math.min(place + 3, width - 56), HEIGHT - 9);
    }
  }

  pick(share) {
    const at = this.edge - this.width * (1 - share);
    const bar = this.bars().find((each) => each.from <= at && at <= each.until);
    this.chosen = bar?.by ?? null;
    this.tell(bar);
    this.draw();
  }

  tell(bar) {
    if (!bar) { text(this.words, "Nothing is known of this time."); return; }
    const { by } = bar;
    this.words.replaceChildren(name(bar.state), ` for ${span(bar.until - bar.from)}`,
      ...(by ? [", by ", name(by.trigger), " from ", name(by.source), by.reason ? ": " : "", by.reason ? name(`${by.reason[0]}: ${by.reason[1]}`, { class: "reason" }) : ""] : []));
  }
}

function entryDwell(entries, until) {
  const entry = entries.find((each) => each.at === until && !each.internal);
  return entry ? entry.dwell : 0;
}
