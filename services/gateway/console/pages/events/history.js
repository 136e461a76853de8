// Events of the past, read from the server's stream: it has no end, so a read ends at a limit or when nothing comes.
import { client } from "../../api.js";
import { positionOf } from "./rows.js";

/** The first event may take long, where an archive is read; after it the history comes at once. */
const FIRST_MS = 3_000;
const NEXT_MS = 1_000;
const PIECE_MS = 100;

/**
 * Read events, the oldest first, and give them in pieces to `onEvents`.
 *
 * @param {object} period
 * @param {string} [period.since] a cursor (its event is left out), a time or seconds before now
 * @param {string} [period.until] a cursor (its event is the last) or a time
 * @param {number} [period.most] events that are read at most
 * @returns {Promise<{count: number, more: boolean}>} whether there are more than `most`
 */
export async function readPast({ since, until, types, subjects, most = 20_000, signal }, onEvents) {
  const beganMs = Date.now();
  const isLast = lastOf(until);
  const feed = client.events({ since, types, subject: subjects?.length ? subjects : undefined, signal });
  const events = feed[Symbol.asyncIterator]();
  let [piece, count, more, handedMs] = [[], 0, false, beganMs];
  try {
    for (;;) {
      const next = await within(events.next(), count ? NEXT_MS : FIRST_MS);
      if (next === null || next.done) break;
      const event = next.value;
      const place = isLast(event);
      // What is newer than this read comes from the feed.
      if (place === "after" || (event.time && Date.parse(event.time) > beganMs)) break;
      if (count >= most) {
        more = true;
        break;
      }
      count += 1;
      piece.push(event);
      if (place === "last") break;
      if (Date.now() - handedMs > PIECE_MS) {
        onEvents(piece);
        [piece, handedMs] = [[], Date.now()];
      }
    }
  } finally {
    feed.close();
  }
  signal?.throwIfAborted();
  onEvents(piece);
  return { count, more };
}

/** Return the event with an id, or null. The time in the id says where to look. */
export async function findEvent(id, signal) {
  let found = null;
  const look = (events) => (found ??= events.find((event) => event.id === id) ?? null);
  const madeMs = timeOf(id);
  const places = madeMs ? [{ since: at(madeMs - 5_000), until: at(madeMs + 300_000) }] : [];
  for (const place of [...places, { since: "3600" }, { since: String(7 * 86_400), most: 100_000 }]) {
    await readPast({ ...place, signal }, look);
    if (found) return found;
  }
  return null;
}

const at = (ms) => new Date(ms).toISOString();

/** Return when an id was made (a UUID of version 7), in milliseconds; null where it does not say. */
export function timeOf(id) {
  const digits = /^[a-z]+_([0-9a-f]{8})-?([0-9a-f]{4})-?7/.exec(id);
  return digits && parseInt(digits[1] + digits[2], 16);
}

/** Return a function that says whether an event is the "last" of a period or "after" it. */
function lastOf(until) {
  const end = positionOf(until);
  if (end)
    return ({ cursor }) => {
      const here = positionOf(cursor);
      if (!here || here.epoch !== end.epoch || here.sequence < end.sequence) return null;
      return here.sequence === end.sequence ? "last" : "after";
    };
  const endMs = until ? Date.parse(until) : Infinity;
  return ({ time }) => (time && Date.parse(time) >= endMs ? "after" : null);
}

async function within(promise, limit_ms) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(() => resolve(null), limit_ms)));
  // Once nothing has come in time, nobody waits for the read that goes on until the stream is closed.
  promise.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
