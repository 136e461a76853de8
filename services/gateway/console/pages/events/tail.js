// The list behind the page: what came from the feed, what was read of the past, and what a pause holds back.
import { signal } from "../../vendor/preact.js";
import * as feed from "../../feed.js";
import { EventRows, MOST, cursorBefore, matcher, positionOf } from "./rows.js";
import { findEvent, readPast } from "./history.js";

/** The list is painted so often at most: more would only use up the machine. */
const PAINT_MS = 100;
/** The past that is read when the page opens, and how far one step goes back, in sequences of the stream. */
const OPENING_S = "3600";
const STEP = 1_000;
const AROUND = 150;

export class Tail {
  rows = new EventRows();
  /** Grows with each change that is to be painted. */
  version = signal(0);
  paused = signal(false);
  held = signal(0);
  /** null, "reading", or an error. */
  reading = signal(null);
  /** Whether new events belong to what is shown: not to a period of the past. */
  live = true;
  more = false;
  #heldEvents = [];
  #matches = () => true;
  #controller = new AbortController();
  #timer = null;

  /** Follow the feed; returns a function that ends it. */
  open() {
    const stop = feed.subscribe((event) => this.#take(event));
    const shown = () => document.hidden || this.#paint();
    document.addEventListener("visibilitychange", shown);
    return () => {
      stop();
      document.removeEventListener("visibilitychange", shown);
      this.#controller.abort();
      clearTimeout(this.#timer);
    };
  }

  filter(filter) {
    this.#matches = matcher(filter);
    this.rows.filter(this.#matches);
    this.held.value = this.#heldEvents.filter(this.#matches).length;
    this.#paint();
  }

  pause(paused) {
    this.paused.value = paused;
    if (paused) return;
    for (const event of this.#heldEvents) this.rows.push(event);
    this.#heldEvents = [];
    this.held.value = 0;
    this.#paint();
  }

  /** Show new events, and those of the last hour or since `since`. */
  async showLive({ since, types, subjects }) {
    this.#restart(true);
    this.rows.merge(feed.received());
    await this.#read(async (signal) => {
      const period = { types, subjects, signal };
      const { more } = await readPast({ ...period, since: since ?? OPENING_S, most: MOST }, this.#merge);
      if (more && !since) {
        // More than fits in an hour: the newest only, without a hole before what comes now.
        this.rows.clear();
        this.rows.merge(feed.received());
        await readPast({ ...period, since: "5", most: MOST }, this.#merge);
      } else if (this.rows.all.length === 0 && !since) {
        await readPast({ ...period, since: String(7 * 86_400), most: MOST }, this.#merge);
      }
    });
  }

  /** Show a period of the past. */
  async showPeriod({ since, until, types, subjects }) {
    this.#restart(false);
    await this.#read(async (signal) => {
      const { more } = await readPast({ since, until, types, subjects, most: MOST, signal }, this.#merge);
      this.more = more;
    });
  }

  /** Show what was around an event; returns it, or null where it is not stored. */
  async showAround({ cursor, id }) {
    this.#restart(false);
    let found = null;
    await this.#read(async (signal) => {
      const at = cursor ?? (found = await findEvent(id, signal))?.cursor;
      if (!at) return;
      const look = (events) => {
        found = events.find((event) => event.cursor === at) ?? found;
        this.#merge(events);
      };
      await readPast({ since: cursorBefore(at, AROUND) ?? at, most: 2 * AROUND, signal }, look);
    });
    return found;
  }

  /** Read what is before the first row. */
  async older({ types, subjects }) {
    const first = this.rows.all.find((event) => event.cursor)?.cursor;
    const before = this.rows.all.length;
    await this.#read(async (signal) => {
      for (let step = STEP; ; step *= 4) {
        const since = first ? cursorBefore(first, step) : String(90 * 86_400);
        await readPast({ since, until: first, types, subjects, most: MOST, signal }, this.#merge);
        if (this.rows.all.length > before || !first || since.endsWith(".0")) break;
      }
    });
  }

  #merge = (events) => {
    const heldFrom = positionOf(this.#heldEvents.find((event) => event.cursor)?.cursor);
    const held = ({ cursor }) => heldFrom && positionOf(cursor)?.sequence >= heldFrom.sequence;
    this.rows.merge(events.filter((event) => !held(event)));
    this.#soon();
  };

  #restart(live) {
    this.#controller.abort();
    this.#controller = new AbortController();
    this.live = live;
    this.more = false;
    this.#heldEvents = [];
    this.held.value = 0;
    this.rows.clear();
    this.#paint();
  }

  async #read(work) {
    const { signal } = this.#controller;
    this.reading.value = "reading";
    try {
      await work(signal);
      if (!signal.aborted) this.reading.value = null;
    } catch (error) {
      if (!signal.aborted) this.reading.value = error;
    }
    if (!signal.aborted) this.#paint();
  }

  #take(event) {
    if (!this.live) return;
    if (!this.paused.value) {
      this.rows.push(event);
    } else {
      this.#heldEvents.push(event);
      if (this.#heldEvents.length > MOST * 1.05) this.#heldEvents.splice(0, this.#heldEvents.length - MOST);
      if (this.#matches(event)) this.held.value = Math.min(MOST, this.held.value + 1);
    }
    this.#soon();
  }

  #soon() {
    // A hidden tab paints nothing; it does so once when it is shown again.
    if (this.#timer || document.hidden) return;
    this.#timer = setTimeout(() => this.#paint(), PAINT_MS);
  }

  #paint() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.version.value += 1;
  }
}
