// The calls of a connection: how many in each of the last seconds, how long they took, how they ended.

import { el, name, table, text } from "./dom.js";
import { span } from "./times.js";

export class Calls {
  constructor(model) {
    this.model = model;
    this.canvas = el("canvas", { role: "img", height: 90 });
    this.words = el("p", {});
    this.error = el("p", { class: "reason" });
    this.table = table(["Method", "Calls", "Failed", "Cancelled", "p50", "p95", "p99"], "Calls by method");
    this.some = el("div", {}, this.words, this.canvas, el("p", { class: "hint" }, "Calls in each of the last 60 seconds; the lower part of a bar, hatched, is those that failed."), this.error, this.table.element);
    this.none = el("p", { class: "hint" }, "No call has ended since it is watched.");
    this.element = el("div", {}, this.none, this.some);
  }

  update() {
    const calls = this.model.details.calls;
    this.some.hidden = !calls;
    this.none.hidden = Boolean(calls);
    if (!calls) return;
    const last = calls.seconds.slice(-11, -1);
    const rate = last.reduce((sum, [all]) => sum + all, 0) / last.length;
    const failed = calls.seconds.reduce((sum, each) => sum + each[1], 0);
    const words = `${rate.toFixed(1)} calls a second over the last ten; ${failed} failed in the last minute`;
    text(this.words, words);
    this.canvas.setAttribute("aria-label", words);
    this.error.replaceChildren(...(calls.last_error ? ["Last error, of ", name(calls.last_error[0]), ": ", name(`${calls.last_error[1]}: ${calls.last_error[2]}`)] : []));
    this.table.show(calls.methods.map((each) => ({ key: each.method, stamp: JSON.stringify(each), make: () => el("tr", {},
      el("td", {}, name(each.method)), ...[each.count, each.failed, each.cancelled].map((value) => el("td", { class: "number" }, String(value))),
      ...[each.p50, each.p95, each.p99].map((value) => el("td", { class: "number" }, value === null ? "–" : `≤ ${span(value)}`))) })));
    this.draw(calls.seconds);
  }

  draw(seconds) {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(90 * ratio);
    const styles = getComputedStyle(document.documentElement);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const most = Math.max(1, ...seconds.map(([all]) => all));
    const step = width / seconds.length;
    seconds.forEach(([all, failed], place) => {
      const bar = (count) => (count / most) * 70;
      pen.fillStyle = styles.getPropertyValue("--good");
      pen.fillRect(place * step + 1, 86 - bar(all), step - 2, bar(all));
      pen.fillStyle = styles.getPropertyValue("--bad");
      pen.fillRect(place * step + 1, 86 - bar(failed), step - 2, bar(failed));
      pen.fillStyle = styles.getPropertyValue("--paper");
      for (let y = 86 - bar(failed) + 2; y < 86; y += 4) pen.fillRect(place * step + 1, y, step - 2, 1);
    });
    pen.fillStyle = styles.getPropertyValue("--dim");
    pen.font = "12px system-ui, sans-serif";
    pen.fillText(`${most} a second`, 2, 11);
    pen.fillRect(0, 87, width, 1);
  }
}
