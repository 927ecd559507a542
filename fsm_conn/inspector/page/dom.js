// Elements made from text, and from nothing but text: no name of a machine is ever read as markup.

export function el(tag, options = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) found.addEventListener(event, handler);
    else if (name === "class") found.className = value;
    else if (name === "data") Object.assign(found.dataset, value);
    else found.setAttribute(name, value === true ? "" : String(value));
  }
  found.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return found;
}

// A name of somebody else's: isolated, so that its direction turns nothing around it.
export function name(text, options = {}) {
  return el("bdi", { title: text.length > 40 ? text : null, ...options }, text);
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// Rows of a table, of which only those that differ are made anew.
export function table(headings, caption) {
  const body = el("tbody");
  const made = new Map();
  const element = el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, ...headings.map((each) => el("th", { scope: "col" }, each)))), body),
  );
  function show(rows) {
    const wanted = new Set(rows.map((row) => row.key));
    for (const [key, row] of made) if (!wanted.has(key)) { row.element.remove(); made.delete(key); }
    let before = null;
    for (let place = rows.length - 1; place >= 0; place--) {
      const row = rows[place];
      let known = made.get(row.key);
      if (!known || known.stamp !== row.stamp) {
        const fresh = row.make();
        if (known) known.element.replaceWith(fresh);
        known = { element: fresh, stamp: row.stamp };
        made.set(row.key, known);
      }
      if (known.element.parentNode !== body || known.element.nextSibling !== before) body.insertBefore(known.element, before);
      before = known.element;
    }
  }
  return { element, show };
}
