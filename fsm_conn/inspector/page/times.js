// Seconds as people read them.

export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 0.0009995) return `${Math.round(s * 1e6)} µs`;
  if (s < 0.9995) return `${precise(s * 1000)} ms`;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(Math.floor(s % 60))} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${pad(Math.floor((s % 86400) / 3600))} h`;
}

// The time in a state: whole seconds, so that a list does not flicker.
export function stay(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : span(seconds);
}

function precise(value) {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function pad(value) {
  return String(value).padStart(2, "0");
}

export function clockTime(wallSeconds) {
  const date = new Date(wallSeconds * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
