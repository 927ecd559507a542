// The transitions of the chosen machine, the last one first, and their export as the JSON lines that traces are made of.

import { el, name, table, text } from "./dom.js";
import { look } from "./looks.js";
import { clockTime, span } from "./times.js";

const AT_ONCE = 100;

export class Transitions {
  constructor(model) {
    this.model = model;
    this.most = AT_ONCE;
    this.table = table(["When", "From", "To", "Trigger", "After", "Reason"], "Transitions, the last one first");
    this.more = el("button", { type: "button", on: { click: () => { this.most += AT_ONCE * 5; this.update(); } } }, "Show more");
    this.internal = el("input", { type: "checkbox", checked: true, on: { change: () => this.update() } });
    this.count = el("span", { class: "hint" });
    this.element = el("div", {}, el("div", { class: "tools" },
      el("label", {}, this.internal, " internal ones"), el("button", { type: "button", on: { click: () => this.save() } }, "Export JSON lines"), this.count), this.table.element, this.more);
  }

  update() {
    const machine = this.model.machine;
    const all = this.internal.checked ? this.model.entries : this.model.entries.filter((entry) => !entry.internal);
    const shown = all.slice(-this.most).reverse();
    this.table.show(shown.map((entry) => ({ key: entry.number, stamp: 0, make: () => this.row(machine, entry) })));
    this.more.hidden = shown.length >= all.length;
    text(this.count, `${all.length} kept of ${machine?.count ?? 0}`);
  }

  row(machine, entry) {
    const wall = this.model.wallOf(machine, entry.at);
    const state = (each) => { const cell = el("td", {}, el("span", { class: "sign", "aria-hidden": "true" }, look(each).sign), " ", name(each)); cell.style.setProperty("--c", look(each).colour); return cell; };
    return el("tr", { class: entry.internal ? "internal" : null },
      el("td", { class: "number" }, wall === null ? `+${span(entry.at - this.model.clocks.replay.begin)}` : clockTime(wall)),
      state(entry.source), entry.internal ? el("td", { class: "hint" }, "(stays)") : state(entry.dest), el("td", {}, name(entry.trigger)),
      el("td", { class: "number" }, span(entry.dwell)),
      el("td", { class: "reason" }, entry.reason ? name(`${entry.reason[0]}: ${entry.reason[1]}`) : ""));
  }

  lines() {
    const machine = this.model.machine;
    return this.model.entries.map((entry) => JSON.stringify({
      v: 1, trigger: entry.trigger, source: entry.source, dest: entry.dest, internal: entry.internal,
      reason: entry.reason ? { type: entry.reason[0], message: entry.reason[1] } : null,
      attempt: entry.attempt, dwell: entry.dwell, at: entry.at, connection: machine.name, class: machine.klass,
      life: `${machine.key}-${entry.gap}`, // what was missed in between begins another one
    })).join("\n") + "\n";
  }

  save() {
    const address = URL.createObjectURL(new Blob([this.lines()], { type: "application/jsonl" }));
    const file = this.model.machine.name.replace(/[^A-Za-z0-9_.-]+/g, "-").slice(0, 60) || "machine";
    el("a", { href: address, download: `${file}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
}
