// A pool: its slots, who leases them, and who waits.

import { el, name, table, text } from "./dom.js";
import { look } from "./looks.js";

const TILES = [
  ["Size", (s) => s.pool_size], ["In service", (s) => s.total_connections], ["Overflow", (s) => s.overflow_connections],
  ["Leased", (s) => s.leased], ["Free", (s) => s.available_in_pool], ["Standby", (s) => s.standby], ["Waiting", (s) => s.waiting + s.calls_waiting],
  ["Given up", (s) => s.given_up], ["Timeouts", (s) => s.stats.timeouts], ["Refused", (s) => s.stats.refused], ["Leaked", (s) => s.stats.leaked],
  ["Wait p95", (s) => `${s.wait_ms.p95} ms`],
];

export class Pool {
  constructor(model) {
    this.model = model;
    this.values = TILES.map(() => el("dd", {}));
    this.table = table(["Slot", "State", "Connection", "Leases", "Calls", "Leased so far", "Links", "Last cause"], "Slots of the pool");
    this.element = el("div", {}, el("dl", { class: "tiles" }, ...TILES.map(([title], place) => el("div", {}, el("dt", {}, title), this.values[place]))), this.table.element);
  }

  update() {
    const pool = this.model.details.pool;
    if (!pool) return;
    TILES.forEach(([, read], place) => text(this.values[place], String(read(pool.stats))));
    this.table.show(pool.slots.map((slot, place) => ({ key: place, stamp: JSON.stringify(slot), make: () => {
      const row = el("tr", {}, el("td", {}, `${place + 1}, ${slot.kind}`), el("td", {}, name(slot.state)),
        el("td", {}, el("span", { class: "sign", "aria-hidden": "true" }, look(slot.connection).sign), " ", name(slot.connection)),
        ...[slot.leases, slot.calls, slot.served, slot.links].map((value) => el("td", { class: "number" }, String(value))), el("td", { class: "reason" }, slot.cause ? name(slot.cause) : ""));
      row.style.setProperty("--c", look(slot.connection).colour);
      return row;
    } })));
  }
}
