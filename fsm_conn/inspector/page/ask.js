// Asks back before anything is done in the process.

import { el, name } from "./dom.js";

export function ask(question, machine, words) {
  const dialog = document.getElementById("ask");
  return new Promise((resolve) => {
    const no = el("button", { type: "button", autofocus: true, on: { click: () => dialog.close("no") } }, "No");
    const yes = el("button", { type: "button", class: "grave", on: { click: () => dialog.close("yes") } }, "Yes, do it");
    dialog.replaceChildren(el("h2", { id: "ask-title" }, name(question)), el("p", {}, "With ", name(machine.name), ", now ", name(machine.state), ". ", words), el("div", { class: "tools" }, no, yes));
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}
