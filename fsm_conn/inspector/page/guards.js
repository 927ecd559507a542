// What would happen now: for each trigger what its guards say, and why the others would be refused. Where it is allowed,
// and while a table is walked by hand, triggers are fired here, and guards answered.

import { el, name } from "./dom.js";
import { wish } from "./feed.js";

export class Guards {
  constructor(model, ask, say) {
    this.model = model;
    this.ask = ask;
    this.say = say;
    this.element = el("div", { class: "guards" });
    this.stamp = "";
  }

  forget() {
    this.stamp = "";
    this.element.replaceChildren();
  }

  update() {
    const { machine, chart, details } = this.model;
    if (!machine || !chart) return;
    const walks = machine.kind === "walk";
    const stamp = JSON.stringify([machine.key, machine.state, details.guards, this.model.hello.allow, details.snapshot?.activity, details.snapshot?.is_resting]);
    if (stamp === this.stamp) return;
    this.stamp = stamp;
    const held = document.activeElement?.dataset?.hold;
    this.element.replaceChildren(
      this.activity(machine, chart, details),
      el("h3", {}, walks ? "What can be fired" : "What would happen now"),
      ...this.verdicts(machine, chart, details, walks),
      ...this.refused(machine, chart),
      walks ? el("button", { type: "button", on: { click: () => this.send("api/answer", { of: machine.key, again: true }) } }, "Begin again") : "");
    if (held) this.element.querySelector(`[data-hold="${CSS.escape(held)}"]`)?.focus();
  }

  activity(machine, chart, details) {
    const state = chart.states.find((each) => each.name === machine.state);
    if (!state) return "";
    const says = [];
    if (state.activity) says.push(el("li", {}, machine.kind === "walk" ? "its activity would be " : "its activity is ", name(state.activity),
      details.snapshot && machine.kind !== "walk" ? ` (${details.snapshot.is_resting ? "it only waits" : details.snapshot.activity ? "at work" : "not at work"})` : ""));
    if (state.fires?.length) says.push(el("li", {}, "which fires ", ...listed(state.fires)));
    if (state.activity && state.on_error) says.push(el("li", {}, "an error of the world outside fires ", name(state.on_error)));
    if (state.timeout) says.push(el("li", {}, "time limit: ", name(state.timeout), state.on_timeout.length ? ", then fires " : "", ...listed(state.on_timeout)));
    if (state.entry.length) says.push(el("li", {}, "on entering calls ", ...listed(state.entry)));
    if (state.exit.length) says.push(el("li", {}, "on leaving calls ", ...listed(state.exit)));
    if (state.final) says.push(el("li", {}, "life may end here"));
    return el("div", {}, el("h3", {}, "In ", name(machine.state)), says.length ? el("ul", { class: "plain" }, ...says) : el("p", { class: "hint" }, "It waits to be told what happens."));
  }

  verdicts(machine, chart, details, walks) {
    if (machine.kind === "replay") return [el("p", { class: "hint" }, "A record knows no guards; the table says what could have followed:"), ...this.possible(machine, chart)];
    if (details.guards === null) return [el("p", { class: "hint" }, "It lives in the event loop of another thread, where its guards cannot be asked.")];
    if (!details.guards) return [el("p", { class: "hint" }, "asking…")];
    if (!details.guards.length) return [el("p", { class: "hint" }, "Nothing: no trigger is handled in this state.")];
    return details.guards.map((verdict) => this.verdict(machine, chart, verdict, walks));
  }

  possible(machine, chart) {
    const triggers = new Set(chart.rows.filter((row) => row.sources.includes(machine.state)).map((row) => row.trigger));
    return [...triggers].map((trigger) => el("div", { class: "verdict" }, el("b", {}, name(trigger)), " → ",
      ...listed([...new Set(chart.rows.filter((row) => row.trigger === trigger && row.sources.includes(machine.state)).map((row) => row.dest ?? "(stays)"))])));
  }

  verdict(machine, chart, verdict, walks) {
    const taken = verdict.taken === null ? null : chart.rows[verdict.taken];
    const outcome = taken ? (taken.dest === null ? ["stays"] : ["→ ", name(taken.dest)])
      : [walks ? "refused: a guard of each row says no" : "cannot be told before"];
    const may = walks || (this.model.may("fire") && machine.kind !== "replay");
    const fire = may && !verdict.needs.length ? el("button", { type: "button", data: { hold: `fire ${verdict.trigger}` }, "aria-label": `Fire ${verdict.trigger}`, on: { click: () => this.fire(machine, verdict.trigger, walks) } }, "Fire") : "";
    return el("div", { class: "verdict" }, el("div", { class: "head" }, el("b", {}, name(verdict.trigger)), el("span", { class: taken ? "yes" : "no" }, ...outcome), fire),
      verdict.needs.length ? el("p", { class: "hint" }, "needs data: ", ...listed(verdict.needs)) : "",
      ...verdict.rows.filter((row) => row.guards.length || verdict.rows.length > 1 || chart.rows[row.row].effects.length).map((row) => this.row(machine, chart.rows[row.row], row, verdict, walks)));
  }

  row(machine, row, asked, verdict, walks) {
    return el("div", { class: asked.row === verdict.taken ? "row taken" : "row" },
      el("span", {}, row.dest === null ? "stays" : "→ ", row.dest === null ? "" : name(row.dest), asked.guards.length ? " if " : verdict.rows.length > 1 ? " otherwise" : ""),
      ...asked.guards.map((guard) => this.guard(machine, guard, walks)),
      row.effects.length ? el("span", { class: "hint" }, " does ", ...listed(row.effects)) : "");
  }

  guard(machine, guard, walks) {
    const says = guard.says === null ? "?" : guard.says ? "yes" : "no";
    const kind = guard.says === null ? "unknown" : says;
    if (walks) {
      const bare = guard.guard.replace(/^not /, "");
      const answer = guard.guard === bare ? guard.says : !guard.says;
      return el("button", { type: "button", class: `guard ${kind}`, "aria-pressed": String(answer), data: { hold: `guard ${guard.guard}` }, "aria-label": `${bare} says ${answer ? "yes" : "no"}: change`,
        on: { click: () => this.send("api/answer", { of: machine.key, guard: bare, says: !answer }) } }, name(guard.guard), ` ${says}`);
    }
    return el("span", { class: `guard ${kind}` }, name(guard.guard), ` ${says}`, guard.why ? el("span", { class: "hint" }, " ", name(guard.why)) : "");
  }

  refused(machine, chart) {
    const here = new Set(chart.rows.filter((row) => row.sources.includes(machine.state)).map((row) => row.trigger));
    const elsewhere = new Map();
    for (const row of chart.rows) {
      if (here.has(row.trigger)) continue;
      elsewhere.set(row.trigger, new Set([...(elsewhere.get(row.trigger) ?? []), ...row.sources]));
    }
    if (!elsewhere.size) return [];
    return [el("h3", {}, "What would be refused"), el("ul", { class: "plain" }, ...[...elsewhere].map(([trigger, states]) =>
      el("li", {}, el("b", {}, name(trigger)), el("span", { class: "hint" }, ": only in ", ...listed([...states])))))];
  }

  async fire(machine, trigger, walks) {
    if (!walks && !(await this.ask(`Fire ${trigger}?`, machine, "This changes the running process."))) return;
    await this.send("api/act", { of: machine.key, act: "fire", trigger });
  }

  async send(path, value) {
    this.say(await wish(path, value));
  }
}

function listed(names) {
  return names.flatMap((each, place) => [place ? ", " : "", name(each)]);
}
