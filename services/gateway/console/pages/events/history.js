// Events of the past, read from the server's stream, which says where they end: silence does not, as a long history can
// have few events that are wanted.
import { client } from "../../api.js";
import { positionOf } from "./rows.js";

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
  const isLast = lastOf(until);
  const feed = client.events({ since, types, subject: subjects?.length ? subjects : undefined, follow: false, signal });
  let [piece, count, more] = [[], 0, false];
  const hand = () => {
    if (piece.length) onEvents(piece);
    piece = [];
  };
  const timer = setInterval(hand, PIECE_MS);
  try {
    for await (const event of feed) {
      const place = isLast(event);
      if (place === "after") break;
      if (count >= most) {
        more = true;
        break;
      }
      count += 1;
      piece.push(event);
      if (place === "last") break;
    }
  } finally {
    clearInterval(timer);
    feed.close();
  }
  signal?.throwIfAborted();
  hand();
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
