// Pages of deliveries that are shown as one list, and read again while somebody looks.
import { useRef, useSignal } from "../../vendor/preact.js";
import { get } from "../../api.js";
import { useLoaded } from "../../parts/loaded.js";

const PAGE = 50;
/** Rows that one request reads where many are read again (contracts/limits.py, PAGE_MAX). */
const PAGE_MOST = 200;
const MOST = 1_000;

/**
 * Return the deliveries at a path: {loaded, rows, poll, reload, hasMore, more}; `state` filters them.
 *
 * `poll` reads the newest page, and the older ones that are shown where they can have changed; `reload` reads all.
 */
export function useDeliveries(path, state) {
  const key = `${path} ${state}`;
  /** What follows the newest page: its rows, and the cursor after them. Of another list it does not count. */
  const older = useSignal({ key, rows: [], next: undefined });
  const wholly = useRef(false);
  const lastOfNewest = useRef(null);
  const kept = older.value.key === key ? older.value : { key, rows: [], next: undefined };
  const pageAt = (cursor, limit, signal) => get(path, { limit, state: state ?? undefined, cursor }, signal);
  const readOlder = async (cursor, before, signal) => {
    const oldest = before.rows.at(-1).id;
    const rows = [];
    let next = cursor;
    while (next && rows.length < Math.min(MOST, before.rows.length + PAGE_MOST) && !rows.some(({ id }) => id === oldest)) {
      const page = await pageAt(next, PAGE_MOST, signal);
      rows.push(...page.data);
      next = page.next_cursor;
    }
    // Rows that were read for a button meanwhile follow what was shown before.
    if (older.value === before) older.value = { key, rows, next };
  };
  const loaded = useLoaded(async (signal) => {
    const before = older.value;
    const page = await pageAt(undefined, PAGE, signal);
    const last = page.data.at(-1)?.id;
    const hasChanged = wholly.current || last !== lastOfNewest.current || before.rows.some((row) => row.state === "pending");
    if (before.key === key && before.rows.length && hasChanged) await readOlder(page.next_cursor, before, signal);
    lastOfNewest.current = last;
    wholly.current = false;
    return page;
  }, [path, state]);
  const newest = loaded.value?.data ?? [];
  const known = new Set(newest.map(({ id }) => id));
  const rows = [...newest, ...kept.rows.filter(({ id }) => !known.has(id))];
  const cursor = kept.next === undefined ? loaded.value?.next_cursor : kept.next;
  const more = async () => {
    const before = older.value;
    const page = await pageAt(cursor, PAGE);
    if (older.value === before) older.value = { key, rows: [...kept.rows, ...page.data], next: page.next_cursor };
  };
  const reload = () => {
    wholly.current = true;
    loaded.reload();
  };
  return { loaded, rows, poll: loaded.poll, reload, hasMore: Boolean(cursor) && rows.length < MOST, more };
}
