// The controls of a recorded life: pause, speed, and the moment.

import { el, text } from "./dom.js";
import { wish } from "./feed.js";
import { span } from "./times.js";

const SPEEDS = [0.1, 0.5, 1, 2, 5, 10, 60, 600];

export class ReplayBar {
  constructor(model, say) {
    this.model = model;
    this.say = say;
    this.box = document.getElementById("replay");
    this.play = el("button", { type: "button", on: { click: () => this.steer({ paused: !this.model.clocks.replay.paused }) } }, "Pause");
    this.place = el("input", { type: "range", min: 0, max: 1000, step: 1, value: 0, "aria-label": "Moment of the record", on: { change: () => this.jump(), input: () => { this.held = true; } } });
    this.speed = el("select", { "aria-label": "Speed", on: { change: () => this.steer({ speed: Number(this.speed.value) }) } }, ...SPEEDS.map((each) => el("option", { value: each }, `${each} ×`)));
    this.words = el("span", { class: "number" });
    this.box.append(this.play, this.place, this.speed, this.words);
  }

  async jump() {
    await this.steer({ at: Number(this.place.value) / 1000 });
    this.held = false;
  }

  async steer(value) {
    this.say(await wish("api/steer", value));
  }

  update() {
    const clock = this.model.clocks.replay;
    this.box.hidden = !clock;
    if (!clock) return;
    const length = Math.max(1e-9, clock.end - clock.begin);
    const at = Math.min(clock.end, clock.at + ((performance.now() - clock.heard) / 1000) * clock.rate);
    if (!this.held) this.place.value = String(Math.round(((at - clock.begin) / length) * 1000));
    text(this.play, clock.paused ? "Play" : "Pause");
    text(this.words, `${span(at - clock.begin)} of ${span(length)}`);
    this.place.setAttribute("aria-valuetext", this.words.textContent);
    const known = SPEEDS.includes(clock.speed);
    if (!known && !this.own) { this.own = el("option", { value: clock.speed }, `${clock.speed} ×`); this.speed.append(this.own); }
    if (document.activeElement !== this.speed) this.speed.value = String(clock.speed);
  }
}
