// Rows of the event list: bounded, in the order of the stream, each once, and which of them a filter lets through.

/** Rows that the list keeps; older ones are read from the server again. */
export const MOST = 20_000;

/** Return {epoch, sequence} of a cursor; null without one. */
export function positionOf(cursor) {
  const match = /^([^.]+)\.(\d+)$/.exec(cursor ?? "");
  return match && { epoch: match[1], sequence: Number(match[2]) };
}

/** Return the cursor that stands `count` sequences before another, at the least 0. */
export function cursorBefore(cursor, count = 1) {
  const at = positionOf(cursor);
  return at && `${at.epoch}.${Math.max(0, at.sequence - count)}`;
}

/** Return whether two events are the same; one without a cursor has only its id. */
const same = (one, other) => (one.id ?? one.cursor) !== null && one.id === other.id && one.cursor === other.cursor;

function compare(one, other) {
  const [at, otherAt] = [positionOf(one.cursor), positionOf(other.cursor)];
  if (at && otherAt && at.epoch === otherAt.epoch) return at.sequence - otherAt.sequence;
  return (one.time ?? "") < (other.time ?? "") ? -1 : (one.time ?? "") > (other.time ?? "") ? 1 : 0;
}

/** Return a function that says whether an event passes a filter: {types, subjects, text}. */
export function matcher({ types = [], subjects = [], text = "" }) {
  const wanted = text.trim().toLowerCase();
  return (event) =>
    (types.length === 0 || types.includes(event.type) || types.includes(`${event.type.split(".")[0]}.*`)) &&
    (subjects.length === 0 || subjects.includes(event.subject)) &&
    (wanted === "" || JSON.stringify(event.envelope).toLowerCase().includes(wanted));
}

export class EventRows {
  /** All events, the oldest first; and those that pass the filter. */
  all = [];
  shown = [];
  /** Rows that were ever removed before `shown`, less those that were put there: a list stays where it is by it. */
  origin = 0;
  #matches = () => true;
  #most;

  constructor(most = MOST) {
    this.#most = most;
  }

  /** Remove everything. */
  clear() {
    this.all = [];
    this.shown = [];
    this.origin = 0;
  }

  /** Show only what passes. */
  filter(matches) {
    this.#matches = matches;
    this.shown = this.all.filter(matches);
    this.origin = 0;
  }

  /** Add a new event at the end. */
  push(event) {
    this.all.push(event);
    if (this.#matches(event)) this.shown.push(event);
    if (this.all.length > this.#most * 1.05) this.#cut();
  }

  /** Add events that were read from the server, wherever they belong; known ones are dropped. */
  merge(events) {
    if (events.length === 0) return;
    const first = this.shown[0];
    const sorted = [...this.all, ...events].sort(compare);
    this.all = sorted.filter((event, index) => index === 0 || !same(event, sorted[index - 1]));
    this.shown = this.all.filter(this.#matches);
    if (first) this.origin -= Math.max(0, this.shown.indexOf(first));
    this.#cut();
  }

  /** Return the index of an event among the shown ones; -1 if it is not there. */
  indexOf({ cursor, id }) {
    return this.shown.findIndex((event) => (cursor ? event.cursor === cursor : event.id === id));
  }

  #cut() {
    const over = this.all.length - this.#most;
    if (over <= 0) return;
    const kept = this.all[over];
    this.all.splice(0, over);
    // `shown` is a part of `all` in the same order: what is older than the first kept one goes.
    let gone = 0;
    while (gone < this.shown.length && this.shown[gone] !== kept && compare(this.shown[gone], kept) < 0) gone += 1;
    this.shown.splice(0, gone);
    this.origin += gone;
  }
}
