// How a state looks: a colour that the colour-blind can tell from the others (after Okabe and Ito), and a sign beside it,
// for nothing is told by colour alone.

const LOOKS = {
  good: { colour: "var(--good)", sign: "●" },
  coming: { colour: "var(--coming)", sign: "◐" },
  again: { colour: "var(--again)", sign: "↻" },
  bad: { colour: "var(--bad)", sign: "✕" },
  rest: { colour: "var(--rest)", sign: "○" },
  going: { colour: "var(--going)", sign: "◌" },
  other: { colour: "var(--other)", sign: "■" },
};
const KNOWN = {
  connected: "good", open: "good", serving: "good", ready: "good", running: "good", done: "good", succeeded: "good",
  connecting: "coming", opening: "coming", starting: "coming", renewing: "coming", waiting: "coming",
  reconnecting: "again", retrying: "again", backing_off: "again",
  failed: "bad", broken: "bad", lost: "bad", refused: "bad",
  disconnected: "rest", closed: "rest", idle: "rest", asleep: "rest", new: "rest",
  disconnecting: "going", closing: "going", draining: "going", stopping: "going",
};
const OTHERS = [
  ["other", "■"], ["coming", "▲"], ["again", "◆"], ["going", "▼"], ["good", "◼"], ["rest", "◇"], ["other", "△"],
];
const made = new Map();

export function look(state) {
  let found = made.get(state);
  if (!found) {
    found = Object.hasOwn(KNOWN, state) ? LOOKS[KNOWN[state]] : hashed(state);
    if (made.size > 5000) made.clear();
    made.set(state, found);
  }
  return found;
}

function hashed(state) {
  let sum = 0;
  for (let place = 0; place < state.length; place++) sum = (sum * 31 + state.charCodeAt(place)) >>> 0;
  const [kind, sign] = OTHERS[sum % OTHERS.length];
  return { colour: LOOKS[kind].colour, sign };
}

// The colour as the canvas wants it.
export function colourOf(state, styles) {
  return styles.getPropertyValue(look(state).colour.slice(4, -1)).trim() || "#888";
}
