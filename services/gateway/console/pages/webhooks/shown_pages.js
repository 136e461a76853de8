// Pages of deliveries that are shown as one list, and read again while somebody looks.
import { useRef, useSignal } from "../../vendor/preact.js";
import { get } from "../../api.js";
import { useLoaded } from "../../parts/loaded.js";

const PAGE = 50;
/** Rows that one request reads where many are read again (contracts/limits.py, PAGE_MAX). */
const PAGE_MOST = 200;
const MOST = 1_000;
/** Polls from one reading of older rows to the next where some are to be sent: while an endpoint is down, all are. */
const POLLS_OF_PENDING = 10;

/**
 * Return the deliveries at a path: {loaded, rows, poll, reload, hasMore, more}; `state` filters them.
 *
 * `poll` reads the newest page, and the older ones that are shown where they can have changed; `reload` reads all.
 */
export function useDeliveries(path, state) {
  const key = `${path} ${state}`;
  const none = { key, rows: [], next: undefined, after: null };
  /**
   * What follows the newest page: its rows, the cursor after them, and the delivery `after` which they come. Of another
   * list it does not count.
   */
  const older = useSignal(none);
  const wholly = useRef(false);
  /** Polls since the last `reload` for which only older rows that are to be sent can have changed. */
  const polls = useRef(0);
  const kept = older.value.key === key ? older.value : none;
  const pageAt = (cursor, limit, signal) => get(path, { limit, state: state ?? undefined, cursor }, signal);
  /** Read the rows after the newest page again; return whether they are shown. */
  const readOlder = async ({ next_cursor, data }, before, signal) => {
    const oldest = before.rows.at(-1).id;
    const rows = [];
    let next = next_cursor;
    while (next && rows.length < Math.min(MOST, before.rows.length + PAGE_MOST) && !rows.some(({ id }) => id === oldest)) {
      const page = await pageAt(next, PAGE_MOST, signal);
      rows.push(...page.data);
      next = page.next_cursor;
    }
    // Rows that were read for a button meanwhile follow what was shown before.
    if (older.value !== before) return false;
    older.value = { key, rows, next, after: data.at(-1)?.id };
    return true;
  };
  const canHaveChanged = (before, last) => {
    if (before.key !== key || before.rows.length === 0) return false;
    if (wholly.current || last !== before.after) return true;
    return before.rows.some((row) => row.state === "pending") && (polls.current += 1) % POLLS_OF_PENDING === 1;
  };
  const loaded = useLoaded(async (signal) => {
    const before = older.value;
    const page = await pageAt(undefined, PAGE, signal);
    if (!canHaveChanged(before, page.data.at(-1)?.id) || (await readOlder(page, before, signal))) wholly.current = false;
    return page;
  }, [path, state]);
  const newest = loaded.value?.data ?? [];
  const known = new Set(newest.map(({ id }) => id));
  const rows = [...newest, ...kept.rows.filter(({ id }) => !known.has(id))];
  const cursor = kept.next === undefined ? loaded.value?.next_cursor : kept.next;
  const more = async () => {
    const before = older.value;
    const page = await pageAt(cursor, PAGE);
    // Of a poll that has read beyond this page meanwhile the rows stay; one that ended where this page begins goes on.
    const now = older.value;
    if (now !== before && (now.key !== key || now.next !== kept.next)) return;
    const shown = now.key === key && now.rows.length ? now : { ...none, after: newest.at(-1)?.id };
    older.value = { ...shown, rows: [...shown.rows, ...page.data], next: page.next_cursor };
  };
  const reload = () => {
    wholly.current = true;
    polls.current = 0;
    loaded.reload();
  };
  return { loaded, rows, poll: loaded.poll, reload, hasMore: Boolean(cursor) && rows.length < MOST, more };
}
