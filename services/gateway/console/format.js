// Numbers, times and sizes in the reader's language and time zone.
import { language, zone } from "./preferences.js";

const tag = () => (language.value === "pseudo" ? "en" : language.value);
const made = new Map();

function formatter(kind, options) {
  const key = `${kind.name} ${tag()} ${JSON.stringify(options)}`;
  if (!made.has(key)) made.set(key, new kind(tag(), options));
  return made.get(key);
}

const zoned = () => (zone.value === "utc" ? { timeZone: "UTC" } : {});
const suffix = () => (zone.value === "utc" ? " UTC" : "");

/** Label of a field of date and time, which is in the zone in which times are shown. */
export const timeLabel = (text) => (zone.value === "utc" ? `${text} (UTC)` : text);

/** Return a time in the form of such a field, to the minute or with `seconds`; "" without one, or for a cursor. */
export function timeField(text, { seconds = false } = {}) {
  const time = new Date(/^\d{4}-/.test(text ?? "") ? text : NaN);
  if (Number.isNaN(time.getTime())) return "";
  const offset_min = zone.value === "utc" ? 0 : time.getTimezoneOffset();
  return new Date(time.getTime() - offset_min * 60_000).toISOString().slice(0, seconds ? 19 : 16);
}

/** Return the time that such a field has (RFC 3339); null for an empty one. */
export const fieldTime = (value) => (value ? new Date(zone.value === "utc" ? `${value}Z` : value).toISOString() : null);

export const number = (value, digits = 0) =>
  formatter(Intl.NumberFormat, { maximumFractionDigits: digits, minimumFractionDigits: 0 }).format(value);

export const percent = (share, digits = 0) =>
  formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(share);

/** US dollars: four digits after the point below one cent's precision, else two. */
export const usd = (value) => {
  const small = value !== 0 && Math.abs(value) < 0.1;
  const options = { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: small ? 4 : 2 };
  return formatter(Intl.NumberFormat, options).format(value);
};

/** Day and time to the second; the zone is named where it is UTC. */
export const dateTime = (iso) =>
  iso ? formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "medium", ...zoned() }).format(new Date(iso)) + suffix() : "–";

/** Time of day, with milliseconds. */
export const clockTime = (iso) =>
  formatter(Intl.DateTimeFormat, {
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23", ...zoned(),
  }).format(new Date(iso));

const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 365], ["year", Infinity]];

/** "3 minutes ago", "in 2 hours". */
export function relative(iso, nowMs = Date.now()) {
  let amount = (new Date(iso).getTime() - nowMs) / 1000;
  for (const [unit, most] of STEPS) {
    if (Math.abs(amount) < most) return formatter(Intl.RelativeTimeFormat, { numeric: "auto" }).format(Math.round(amount), unit);
    amount /= most;
  }
  return "";
}

/** "850 ms", "12.4 s", "3 min 5 s", "4 min", "2 h 10 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${number(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, 1)} s`;
  const whole = Math.round(seconds);
  const [large, small, names] = whole < 3600 ? [whole, 60, ["min", "s"]] : [whole / 60, 60, ["h", "min"]];
  const rest = Math.floor(large % small);
  return `${Math.floor(large / small)} ${names[0]}${rest ? ` ${rest} ${names[1]}` : ""}`;
}

const SIZES = ["B", "kB", "MB", "GB", "TB"];

/** Size with SI prefixes: "1.4 MB". */
export function bytes(value) {
  let index = 0;
  while (value >= 1000 && index < SIZES.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${number(value, value < 10 && index ? 1 : 0)} ${SIZES[index]}`;
}

/** "a, b and c"; with `type` "disjunction": "a, b or c". */
export const list = (parts, type = "conjunction") => formatter(Intl.ListFormat, { type }).format(parts);
