// The stream of what happens, opened again whenever it ends, and the wishes that are sent beside it.
// The token stands in the address behind "#", which is sent to nobody, and is taken out of it at once.

const SILENCE = 15000; // milliseconds without a word after which the stream counts as lost
const HIDDEN = 60000; // milliseconds for which a page that nobody sees keeps its stream
const PAUSES = [200, 400, 800, 1500]; // milliseconds before the next attempt

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("fsm-token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem("fsm-token");
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

export async function get(path) {
  return fetch(path, { headers: headers(), cache: "no-store" });
}

// Sends a wish. Returns what was wrong with it, or null.
export async function wish(path, value) {
  try {
    const answer = await fetch(path, {
      method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(value), cache: "no-store",
    });
    return answer.ok ? (await answer.json()).error : (await answer.text()).trim() || `refused: ${answer.status}`;
  } catch {
    return "the process cannot be reached";
  }
}

export class Feed {
  // told: is given each message; link: is given "live", "lost" or "refused", and why.
  constructor(told, link) {
    this.told = told;
    this.link = link;
    this.heard = 0;
    this.abort = null;
    document.addEventListener("visibilitychange", () => this.seen());
    setInterval(() => this.watch(), 1000);
  }

  async run() {
    for (let failures = 0; ; failures++) {
      if (document.hidden && this.hiddenFor > HIDDEN) await this.shown();
      try {
        await this.read(() => { failures = 0; });
      } catch (error) {
        if (error instanceof Refused) {
          this.link("refused", error.message);
          await pause(3000);
          continue;
        }
      }
      this.link("lost", "");
      await pause(PAUSES[Math.min(failures, PAUSES.length - 1)]);
    }
  }

  async read(began) {
    this.abort = new AbortController();
    this.heard = performance.now();
    const answer = await fetch("api/feed", { headers: headers(), cache: "no-store", signal: this.abort.signal });
    if (!answer.ok) throw new Refused((await answer.text()).trim() || `refused: ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    began();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.heard = performance.now();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) this.told(JSON.parse(part.slice(6)));
    }
  }

  watch() {
    const away = document.hidden && this.hiddenFor > HIDDEN;
    if (this.abort && (away || performance.now() - this.heard > SILENCE)) this.abort.abort();
  }

  get hiddenFor() {
    return this.hiddenAt === undefined ? 0 : performance.now() - this.hiddenAt;
  }

  seen() {
    if (document.hidden) this.hiddenAt = performance.now();
    else this.hiddenAt = undefined;
    if (!document.hidden && this.wake) this.wake();
  }

  shown() {
    return new Promise((resolve) => { this.wake = resolve; });
  }
}

class Refused extends Error {}

function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}
