// Which rows of the table were taken in this run, by any machine of the class that is watched.

import { el, name, table, text } from "./dom.js";

export class Coverage {
  constructor(model) {
    this.model = model;
    this.words = el("p", {});
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "Rows taken" });
    this.table = table(["Row", "Trigger", "From", "To", "Taken"], "Rows of the table");
    this.element = el("div", {}, this.words, this.bar, el("p", { class: "hint" }, "Counted for all watched machines of this class. Rows that lead the same way by the same trigger are counted together (≈)."), this.table.element);
  }

  update() {
    const { chart, details } = this.model;
    if (!chart || !details.ways) return;
    const rows = chart.rows.map((row, place) => ({ row, place, count: taken(row, details.ways), shared: chart.rows.some((other, at) => at !== place && same(row, other)) }));
    const covered = rows.filter((each) => each.count > 0).length;
    text(this.words, `${covered} of ${rows.length} rows were taken.`);
    this.bar.value = rows.length ? covered / rows.length : 0;
    this.table.show(rows.map((each) => ({ key: each.place, stamp: `${each.count}`, make: () => el("tr", { class: each.count ? null : "never" },
      el("td", { class: "number" }, String(each.place)), el("td", {}, name(each.row.trigger)), el("td", {}, name(each.row.sources.join(", "))),
      el("td", {}, each.row.dest === null ? el("span", { class: "hint" }, "(stays)") : name(each.row.dest)),
      el("td", { class: "number" }, each.count ? `${each.shared ? "≈ " : ""}${each.count}` : "never")) })));
  }
}

function taken(row, ways) {
  let sum = 0;
  for (const [trigger, source, dest, internal, count] of ways) {
    if (trigger === row.trigger && row.sources.includes(source) && (row.dest === null ? internal : !internal && dest === row.dest)) sum += count;
  }
  return sum;
}

function same(one, other) {
  return one.trigger === other.trigger && one.dest === other.dest && one.sources.some((each) => other.sources.includes(each));
}
