// The chosen machine: its head, its timeline, and the panels of which one is shown.

import { Calls } from "./calls.js";
import { Coverage } from "./coverage.js";
import { Diagram } from "./diagram.js";
import { ask } from "./ask.js";
import { el, text } from "./dom.js";
import { wish } from "./feed.js";
import { Guards } from "./guards.js";
import { look } from "./looks.js";
import { Pool } from "./pool.js";
import { stay } from "./times.js";
import { Timeline } from "./timeline.js";
import { Transitions } from "./transitions.js";

export class Detail {
  constructor(model, { back, say, lookAgain }) {
    this.model = model;
    this.say = say;
    this.lookAgain = lookAgain;
    this.box = document.getElementById("detail");
    this.timeline = new Timeline(model);
    this.diagram = new Diagram(model);
    this.guards = new Guards(model, ask, say);
    this.transitions = new Transitions(model);
    this.calls = new Calls(model);
    this.pool = new Pool(model);
    this.coverage = new Coverage(model);
    this.panels = [
      { key: "life", title: "Life", element: el("div", { class: "life" }, this.diagram.element, this.guards.element), update: () => { this.diagram.light(); this.guards.update(); } },
      { key: "transitions", title: "Transitions", element: this.transitions.element, update: () => this.transitions.update() },
      { key: "calls", title: "Calls", element: this.calls.element, update: () => this.calls.update(), only: "connection" },
      { key: "pool", title: "Pool", element: this.pool.element, update: () => this.pool.update(), only: "pool" },
      { key: "coverage", title: "Coverage", element: this.coverage.element, update: () => this.coverage.update() },
    ];
    this.shown = "life";
    this.back = el("button", { type: "button", class: "back", on: { click: back } }, "‹ All machines");
    this.name = el("bdi", {});
    this.state = el("span", { class: "pill", role: "status" });
    this.facts = el("p", { class: "facts" });
    this.reason = el("bdi", { class: "reason" });
    this.acts = el("div", { class: "acts" });
    this.tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "What is shown of the machine", on: { keydown: (event) => this.key(event) } });
    for (const panel of this.panels) {
      panel.tab = el("button", { type: "button", role: "tab", id: `tab-${panel.key}`, "aria-controls": `panel-${panel.key}`, on: { click: () => this.open(panel.key) } }, panel.title);
      this.tabs.append(panel.tab);
      Object.assign(panel.element, { id: `panel-${panel.key}` });
      panel.element.setAttribute("role", "tabpanel");
      panel.element.setAttribute("aria-labelledby", `tab-${panel.key}`);
    }
    this.whole = [el("div", { class: "head" }, this.back, el("h2", {}, this.name), this.state, this.acts), this.facts, this.timeline.element, this.tabs, ...this.panels.map((panel) => panel.element)];
    new ResizeObserver(() => this.diagram.fit()).observe(this.diagram.frame);
  }

  get asksGuards() {
    return this.shown === "life";
  }

  // Another machine was chosen.
  begin() {
    if (!this.box.contains(this.tabs)) this.box.replaceChildren(...this.whole);
    this.timeline.forget();
    this.guards.forget();
    const machine = this.model.machine;
    for (const panel of this.panels) panel.tab.hidden = Boolean(panel.only && machine && panel.only !== machine.kind);
    if (this.panels.find((panel) => panel.key === this.shown).tab.hidden) this.shown = "life";
    this.buttons(machine);
    this.open(this.shown, false);
  }

  // Its table and its transitions have come.
  loaded() {
    this.diagram.load();
    this.update();
  }

  open(key, tell = true) {
    this.shown = key;
    for (const panel of this.panels) {
      panel.element.hidden = panel.key !== key;
      panel.tab.setAttribute("aria-selected", String(panel.key === key));
      panel.tab.tabIndex = panel.key === key ? 0 : -1;
    }
    if (tell) this.lookAgain();
    this.update();
    this.diagram.fit();
  }

  key(event) {
    const tabs = this.panels.filter((panel) => !panel.tab.hidden);
    const here = tabs.findIndex((panel) => panel.key === this.shown);
    const there = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (there === undefined) return;
    event.preventDefault();
    const panel = tabs[(there + tabs.length) % tabs.length];
    this.open(panel.key);
    panel.tab.focus();
  }

  buttons(machine) {
    const names = machine?.kind === "connection" ? ["connect", "reconnect", "disconnect"].filter((act) => this.model.may(act)) : [];
    this.acts.replaceChildren(...names.map((act) => el("button", { type: "button", class: "grave", on: { click: () => this.act(act) } }, act)));
  }

  async act(act) {
    const machine = this.model.machine;
    if (await ask(`${act}?`, machine, "This changes the running process.")) this.say(await wish("api/act", { of: machine.key, act }));
  }

  update() {
    const machine = this.model.machine;
    if (!machine) return;
    text(this.name, machine.name);
    const looks = look(machine.state);
    text(this.state, `${looks.sign} ${machine.state}`);
    this.state.style.setProperty("--c", looks.colour);
    this.panels.find((panel) => panel.key === this.shown).update();
    this.tick();
  }

  // Time passes.
  tick() {
    const machine = this.model.machine;
    if (!machine) return;
    const limit = this.model.details.snapshot?.time_left;
    const facts = [machine.klass, `in this state for ${stay(this.model.stayOf(machine))}`, machine.attempt > 0 ? `attempt ${machine.attempt}` : "",
      limit === null || limit === undefined ? "" : `${stay(limit)} left`, `${machine.count} ${machine.count === 1 ? "transition" : "transitions"}`].filter(Boolean).join(" · ");
    const words = machine.reason ? `${facts} · last reason: ` : facts;
    if (this.factWords !== words || this.facts.firstChild === null) {
      this.factWords = words;
      this.facts.replaceChildren(words, this.reason);
    }
    text(this.reason, machine.reason ?? "");
    this.timeline.draw();
  }

  gone() {
    text(this.state, "gone");
    this.state.style.setProperty("--c", "var(--rest)");
    this.acts.replaceChildren();
  }
}
