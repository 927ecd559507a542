// What the page knows: the machines by their keys, and of the chosen one its table, its transitions and its details.

const MOST_ENTRIES = 5000;

export class Model {
  constructor() {
    this.boot = null;
    this.hello = { allow: [], wall: 0, title: "" };
    this.machines = new Map();
    this.version = 0; // one more whenever a machine came, went or changed
    this.chosen = null; // a key
    this.wanted = remembered(); // what was chosen before, by name and class
    this.leftOut = 0;
    this.clocks = { loop: still(), replay: null };
    this.forget();
  }

  forget() {
    this.chart = null;
    this.entries = [];
    this.details = {};
    this.gaps = 0;
  }

  // Take in a message. Returns what it changed.
  take(message) {
    const changed = new Set();
    if (message.hello) this.begin(message.hello, changed);
    if (message.now !== undefined) this.clocks.loop = ticking(message.now, 1);
    if (message.replay) { this.clocks.replay = { ...ticking(message.replay.now, message.replay.rate), ...message.replay }; changed.add("replay"); }
    if (message.left_out !== undefined) this.leftOut = message.left_out;
    for (const key of message.gone ?? []) { this.machines.delete(key); changed.add("list"); if (key === this.chosen) changed.add("row"); }
    for (const row of message.rows ?? []) this.put(row, changed);
    if (message.look) this.look(message.look, changed);
    if (message.of !== undefined && message.of === this.chosen) this.more(message, changed);
    if (changed.has("list")) this.version++;
    return changed;
  }

  begin(hello, changed) {
    this.hello = hello;
    this.machines.clear();
    this.forget();
    this.chosen = null;
    changed.add("hello").add("list");
  }

  put(row, changed) {
    const [key, name, kind, klass, state, since, attempt, reason, count, parent] = row;
    const before = this.machines.get(key);
    const machine = before ?? { key };
    Object.assign(machine, { name, kind, klass, state, since, attempt, reason, count, parent });
    if (!before) {
      machine.text = `${name}\n${klass}`.toLowerCase();
      this.machines.set(key, machine);
      changed.add("added");
    }
    changed.add("list");
    if (key === this.chosen) changed.add("row");
  }

  look({ row, chart, entries }, changed) {
    if (row[0] !== this.chosen) return;
    this.put(row, changed);
    this.forget();
    this.chart = chart;
    this.entries = entries.map(entryOf);
    changed.add("look").add("entries");
  }

  more(message, changed) {
    for (const each of message.entries ?? []) {
      const last = this.entries.at(-1);
      const entry = entryOf(each);
      if (last && entry.number <= last.number) continue;
      if (last && entry.number > last.number + 1) this.gaps++;
      entry.gap = this.gaps;
      this.entries.push(entry);
      changed.add("entries");
    }
    if (this.entries.length > MOST_ENTRIES) this.entries.splice(0, this.entries.length - MOST_ENTRIES);
    if (message.details) { this.details = message.details; changed.add("details"); }
  }

  choose(key) {
    this.chosen = key;
    this.forget();
    const machine = this.machines.get(key);
    if (machine) {
      this.wanted = { name: machine.name, klass: machine.klass };
      sessionStorage.setItem("fsm-chosen", JSON.stringify(this.wanted));
    }
  }

  get machine() {
    return this.machines.get(this.chosen);
  }

  clockOf(machine) {
    return machine && machine.kind === "replay" && this.clocks.replay ? this.clocks.replay : this.clocks.loop;
  }

  nowFor(machine) {
    const clock = this.clockOf(machine);
    return clock.at + ((performance.now() - clock.heard) / 1000) * clock.rate;
  }

  stayOf(machine) {
    return machine.since === null ? null : this.nowFor(machine) - machine.since;
  }

  // The time of day at a moment of the machine's clock; of a replay, whose times are of another day, the moment itself.
  wallOf(machine, at) {
    return machine.kind === "replay" ? null : this.hello.wall + at;
  }

  may(act) {
    return this.hello.allow.includes(act);
  }
}

function entryOf([number, trigger, source, dest, internal, reason, dwell, at, attempt]) {
  return { number, trigger, source, dest, internal, reason, dwell, at, attempt, gap: 0 };
}

function ticking(at, rate) {
  return { at, rate, heard: performance.now() };
}

function still() {
  return ticking(0, 0);
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem("fsm-chosen") ?? "null");
  } catch {
    return null;
  }
}
