// Time axis of the timeline, on which long idle gaps have a fixed width. No document.

/** Width of a folded gap. */
const FOLD_PX = 44;
const SHORTEST_GAP_MS = 10_000;
/** A gap is folded if it is longer than this share of the time in which something happens. */
const GAP_SHARE = 0.15;
/** Of the axis at most this share is folded gaps. */
const FOLDED_SHARE = 0.4;

/** Return the gaps between events in which no attempt runs, worth folding: [{from, to}] in order. */
export function idleGaps({ times_ms, lanes, end_ms }) {
  const busy = merged(lanes.flatMap((lane) => lane.spans.filter((span) => span.kind !== "wait" && span.kind !== "startup")));
  const gaps = [];
  let next = 0;
  for (let index = 0; index < times_ms.length; index += 1) {
    const from = times_ms[index];
    const to = times_ms[index + 1] ?? end_ms;
    if (to - from < SHORTEST_GAP_MS) continue;
    while (next < busy.length && busy[next].to <= from) next += 1;
    if (next >= busy.length || busy[next].from >= to) gaps.push({ from, to });
  }
  const begin_ms = times_ms[0] ?? end_ms;
  const active_ms = end_ms - begin_ms - gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  return gaps.filter((gap) => gap.to - gap.from > GAP_SHARE * active_ms);
}

function merged(spans) {
  const found = [];
  for (const { from, to } of spans.sort((a, b) => a.from - b.from)) {
    const last = found.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else found.push({ from, to });
  }
  return found;
}

/**
 * Return an axis from one time to another over some pixels: {from, to, width, x(time), time(x), folds}.
 *
 * Each of `gaps` that lies between has a fixed width, if there is room for it.
 */
export function makeAxis({ from, to, width, gaps = [] }) {
  const most = Math.floor((FOLDED_SHARE * width) / FOLD_PX);
  const within = gaps
    .map((gap) => ({ from: Math.max(from, gap.from), to: Math.min(to, gap.to) }))
    .filter((gap) => gap.to > gap.from)
    .sort((a, b) => b.to - b.from - (a.to - a.from))
    .slice(0, most)
    .sort((a, b) => a.from - b.from);
  const folded_ms = within.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  const open_ms = to - from - folded_ms;
  // Where all of the time is folded, the gaps share the width.
  const fold_px = open_ms > 0 ? FOLD_PX : width / Math.max(1, within.length);
  const scale = open_ms > 0 ? (width - within.length * FOLD_PX) / open_ms : 0;
  const pieces = [];
  let time = from;
  let x = 0;
  const piece = (until, wide, folded) => {
    pieces.push({ from: time, to: until, x, width: wide, folded });
    time = until;
    x += wide;
  };
  for (const gap of within) {
    if (gap.from > time) piece(gap.from, (gap.from - time) * scale, false);
    piece(gap.to, fold_px, true);
  }
  if (to > time || pieces.length === 0) piece(to, width - x, false);
  return {
    from, to, width,
    x: (at) => position(pieces, at, "from", "to", "x", "width"),
    time: (at) => position(pieces, at, "x", null, "from", null),
    folds: pieces.filter((each) => each.folded),
    pieces,
  };
}

function position(pieces, at, inFrom, inTo, outFrom, outWidth) {
  let low = 0;
  let high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pieces[middle][inFrom] <= at) low = middle;
    else high = middle - 1;
  }
  const piece = pieces[low];
  const size = inTo ? piece[inTo] - piece[inFrom] : piece.width;
  const share = size > 0 ? Math.min(1, Math.max(0, (at - piece[inFrom]) / size)) : 0;
  return piece[outFrom] + share * (outWidth ? piece[outWidth] : piece.to - piece.from);
}

const STEPS_S = [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];

/** Return marks of an axis that are at least so far apart: [{x, seconds}], seconds after `begin_ms`. */
export function ticks(axis, begin_ms, apart_px = 80) {
  const found = [];
  let free = -apart_px;
  const open = axis.pieces.filter((piece) => !piece.folded && piece.width > 0 && piece.to > piece.from);
  const perSecond = Math.max(...open.map((piece) => (piece.width / (piece.to - piece.from)) * 1000), 0);
  const step = STEPS_S.find((seconds) => seconds * perSecond >= apart_px) ?? STEPS_S.at(-1);
  for (const piece of open) {
    const first = Math.ceil((piece.from - begin_ms) / 1000 / step);
    const last = Math.min(Math.floor((piece.to - begin_ms) / 1000 / step), first + 200);
    for (let count = first; count <= last; count += 1) {
      const x = axis.x(begin_ms + count * step * 1000);
      if (x - free < apart_px) continue;
      found.push({ x, seconds: count * step });
      free = x;
    }
  }
  return found;
}
