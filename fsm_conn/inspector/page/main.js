// The page: one stream in, one model, drawn at most once a frame.

import { Detail } from "./detail.js";
import { text } from "./dom.js";
import { Feed, takeToken, wish } from "./feed.js";
import { List } from "./list.js";
import { Model } from "./model.js";
import { ReplayBar } from "./replay.js";

const model = new Model();
const main = document.getElementById("main");
const link = document.getElementById("link");
const list = new List(model, choose);
const detail = new Detail(model, { back, say, lookAgain: look });
const replay = new ReplayBar(model, say);
let changed = new Set();
let asked = false;

function say(what) {
  text(document.getElementById("said"), what ?? "");
}

// The next look at what changed: in the next frame, or soon where there are no frames, as in a window in the background.
function soon() {
  if (asked) return;
  asked = true;
  let done = false;
  const run = () => {
    if (done) return;
    done = true;
    asked = false;
    draw();
  };
  requestAnimationFrame(run);
  setTimeout(run, 100);
}

function draw() {
  const now = changed;
  changed = new Set();
  if (now.has("hello")) hello();
  if (now.has("added")) choose_again();
  if (now.has("list")) list.update();
  if (now.has("replay")) replay.update();
  if (model.chosen !== null && !model.machine) detail.gone();
  else if (now.has("look")) detail.loaded();
  else if (now.has("row") || now.has("entries") || now.has("details")) detail.update();
}

function hello() {
  document.title = `${model.hello.title} inspector`;
  text(document.getElementById("title"), model.hello.title);
}

// What was chosen before the page was loaded anew, or the process came back; otherwise the first, where there is room.
function choose_again() {
  if (model.chosen !== null) return;
  const all = [...model.machines.values()];
  const known = model.wanted && all.find((machine) => machine.name === model.wanted.name && machine.klass === model.wanted.klass);
  if (known) choose(known.key, main.dataset.view === "detail");
  else if (all.length === 1) choose(all[0].key, false);
}

function choose(key, go = true) {
  if (key !== model.chosen) {
    model.choose(key);
    detail.begin();
    look();
  }
  if (go) {
    main.dataset.view = "detail";
    if (matchMedia("(max-width: 820px)").matches) { document.getElementById("detail").focus({ preventScroll: true }); scrollTo(0, 0); }
  }
  list.draw();
}

async function look() {
  if (model.chosen === null) return;
  const wrong = await wish("api/look", { window: model.hello.window, of: model.chosen, guards: detail.asksGuards });
  if (wrong && model.machine) say(wrong);
}

function back() {
  main.dataset.view = "list";
  document.getElementById("list").focus();
}

function linked(how, why) {
  link.dataset.link = how;
  text(link, { live: "live", lost: "the process is gone; looking for it", refused: why }[how]);
}

function theme() {
  const button = document.getElementById("theme");
  const names = ["system", "light", "dark"];
  const set = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    text(button, `Theme: ${name}`);
    document.dispatchEvent(new Event("themed"));
  };
  let chosen = localStorage.getItem("fsm-theme") ?? "system";
  if (!names.includes(chosen)) chosen = "system";
  button.addEventListener("click", () => {
    chosen = names[(names.indexOf(chosen) + 1) % names.length];
    localStorage.setItem("fsm-theme", chosen);
    set(chosen);
  });
  set(chosen);
}

function told(message) {
  if (message.hello) linked("live", "");
  for (const each of model.take(message)) changed.add(each);
  if (changed.size) soon();
}

setInterval(() => {
  list.update();
  replay.update();
  if (model.machine) detail.tick();
}, 250);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && main.dataset.view === "detail" && !document.getElementById("ask").open) back();
});
takeToken();
theme();
new Feed(told, linked).run();
