// The timeline as a picture: lanes of waits, attempts and stages, cost as a step line, marks of events; and as a table.
import { html, useEffect, useMemo, useRef, useSignal } from "../../../vendor/preact.js";
import { clockTime, duration, number, usd } from "../../../format.js";
import { language } from "../../../preferences.js";
import { setQuery } from "../../../router.js";
import { idleGaps, makeAxis, ticks } from "./axis.js";
import { Steps } from "./steps.js";
import { indexAt, laneName, marks, rectangles } from "./timeline.js";
import { words } from "./words.js";

const LANE_PX = 24;
const ROW_PX = 9;
const COST_PX = 42;
const HEAD_PX = 24;
const MARKS_PX = 16;
const TABLE_ROWS = 200;
/** In less width, lanes beside one another would be too short to be read. */
const NARROW_PX = 480;

const laneHeight = (lane) => (lane.rows > 1 ? Math.max(LANE_PX, lane.rows * ROW_PX + 6) : LANE_PX);

/**
 * `selected` is the index of the event that the page shows, null for now; `onSelect(index)` changes it. `marked` is that
 * of the event with a mark, or null.
 */
export function Timeline({ fold, titles, selected, marked, onSelect, zoom }) {
  const text = words();
  const box = useRef(null);
  const width = useSignal(0);
  const folded = useSignal(true);
  useEffect(() => {
    let frame = 0;
    // In the next frame: what is drawn for the new width may change the height of what is observed.
    const observer = new ResizeObserver(([entry]) => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => (width.value = Math.floor(entry.contentRect.width)));
    });
    observer.observe(box.current);
    return () => {
      cancelAnimationFrame(frame);
      observer.disconnect();
    };
  }, []);
  const gaps = useMemo(() => idleGaps(fold), [fold]);
  const shown = zoom ? { from: fold.begin_ms + zoom.from, to: fold.begin_ms + zoom.to } : { from: fold.begin_ms, to: fold.end_ms };
  const axis = useMemo(
    () => (width.value > 40 ? makeAxis({ ...shown, width: width.value - 2, gaps: folded.value ? gaps : [] }) : null),
    [fold, gaps, folded.value, width.value, shown.from, shown.to],
  );
  const isNarrow = width.value > 0 && width.value < NARROW_PX;
  const setZoom = (from, to) =>
    setQuery({ zoom: from === null ? null : `${Math.round(from - fold.begin_ms)}-${Math.round(to - fold.begin_ms)}` });
  const nearer = (factor) => {
    const middle = selected === null ? (shown.from + shown.to) / 2 : fold.times_ms[selected];
    const half = Math.max(5, ((shown.to - shown.from) * factor) / 2);
    const from = Math.max(fold.begin_ms, middle - half);
    const to = Math.min(fold.end_ms, middle + half);
    setZoom(...(from <= fold.begin_ms && to >= fold.end_ms ? [null] : [from, to]));
  };
  const last = fold.times_ms.length - 1;
  const keys = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (step) onSelect(Math.max(0, Math.min(last, (selected ?? last) + step)));
    else if (event.key === "Home") onSelect(0);
    else if (event.key === "End") onSelect(null);
    else if (event.key === "+") nearer(0.5);
    else if (event.key === "-") nearer(2);
    else if (event.key === "0") setZoom(null);
    else return;
    event.preventDefault();
  };
  return html`
    <div class="timeline">
      <div class="row between">
        <p class="hint">${isNarrow ? text.stepsHint : text.timelineHint}</p>
        <div class="row">
          ${gaps.length > 0 && html`<label class="chip"><input type="checkbox" checked=${folded.value} onChange=${(event) => (folded.value = event.target.checked)} /> ${text.foldGaps}</label>`}
          <button type="button" aria-label=${text.zoomIn} onClick=${() => nearer(0.5)}>+</button>
          <button type="button" aria-label=${text.zoomOut} onClick=${() => nearer(2)} disabled=${!zoom}>−</button>
          <button type="button" onClick=${() => setZoom(null)} disabled=${!zoom}>${text.whole}</button>
        </div>
      </div>
      <div ref=${box} class="chart" tabindex="0" role="group" aria-label=${text.chartLabel} onKeyDown=${keys}>
        ${isNarrow
          ? html`<${Steps} ...${{ fold, titles, selected, marked, onSelect, shown, gaps: folded.value ? gaps : [] }} />`
          : axis && html`<${Picture} ...${{ fold, axis, titles, selected, marked, onSelect, setZoom }} />`}
      </div>
      <${Twin} fold=${fold} titles=${titles} />
    </div>
  `;
}

function Picture({ fold, axis, titles, selected, marked, onSelect, setZoom }) {
  const text = words();
  // Drawn again only when the events or the axis change: the slider moves over the same elements.
  const { height, drawn } = useMemo(() => still({ fold, axis, titles, text }), [fold, axis, JSON.stringify(titles), text, language.value]);
  const place = (index) => (index === null || index < 0 ? null : axis.x(Math.min(axis.to, Math.max(axis.from, fold.times_ms[index]))));
  const [now, mark] = [place(selected), place(marked)];
  return html`
    <${Brush} axis=${axis} height=${height} onPick=${(time) => onSelect(indexAt(fold.times_ms, time))} onZoom=${setZoom}>
      ${drawn}
      ${mark !== null && html`<line class="marked" x1=${mark} x2=${mark} y1=${HEAD_PX - 8} y2=${height} />`}
      ${now !== null && html`<line class="selected" x1=${now} x2=${now} y1=${HEAD_PX - 8} y2=${height} />`}
    <//>
  `;
}

/** Return what does not depend on the selected event: {height, drawn}. */
function still({ fold, axis, titles, text }) {
  const lanes = [];
  let top = HEAD_PX;
  for (const lane of fold.lanes) {
    lanes.push({ lane, top });
    top += laneHeight(lane) + 16;
  }
  const costTop = top + MARKS_PX + 14;
  const hasCost = fold.cost.length > 0;
  const height = hasCost ? costTop + COST_PX + 8 : top + MARKS_PX + 6;
  const drawn = html`
    <g>
      <defs>
        <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2" height="6" class="hatch" /></pattern>
      </defs>
      ${ticks(axis, fold.begin_ms).map(({ x, seconds }) => html`<g key=${`t${seconds}`}><line class="tick" x1=${x} x2=${x} y1=${HEAD_PX - 6} y2=${height} />${isFree(x, axis) && html`<text class="time" x=${x + 3} y="12">${duration(seconds)}</text>`}</g>`)}
      ${lanes.map(({ lane, top: y }) => html`<${Lane} key=${lane.key} lane=${lane} y=${y} axis=${axis} name=${laneName(lane, titles, text)} />`)}
      ${axis.folds.map((gap) => html`<g key=${`f${gap.x}`} class="fold"><rect x=${gap.x} y=${HEAD_PX - 8} width=${gap.width} height=${height} /><text x=${gap.x + gap.width / 2} y="12" text-anchor="middle">⋯ ${shortDuration((gap.to - gap.from) / 1000)}</text></g>`)}
      <${Marks} fold=${fold} axis=${axis} y=${top} label=${text.eventsLane} />
      ${hasCost && html`<${Cost} fold=${fold} axis=${axis} y=${costTop} label=${text.cost} />`}
    </g>
  `;
  return { height, drawn };
}

/** Whether a label that begins there neither leaves the picture nor covers that of a folded gap. */
const isFree = (x, axis) => x < axis.width - 30 && axis.folds.every((fold) => x > fold.x + fold.width || x < fold.x - 40);

/** "2 h", as a folded gap is labelled. */
const shortDuration = (seconds) => duration(seconds).split(" ").slice(0, 2).join(" ");

function Lane({ lane, y, axis, name }) {
  const text = words();
  const height = laneHeight(lane);
  const row_px = lane.rows > 1 ? (height - 2) / lane.rows : height - 4;
  return html`
    <g class="lane">
      <text class="name" x="2" y=${y + 10}>${name}</text>
      ${rectangles(lane.spans, axis).map(
        (each) => html`<g key=${`${each.row} ${each.x}`} class=${`span ${each.kind}`}>
          <rect x=${each.x} y=${y + 14 + each.row * row_px} width=${each.width} height=${Math.max(3, row_px - 3)} rx="2">
            <title>${text.span(each, duration((each.span.to - each.span.from) / 1000))}</title>
          </rect>
          ${(each.kind === "wait" || each.kind === "startup") && html`<rect class="over" x=${each.x} y=${y + 14 + each.row * row_px} width=${each.width} height=${Math.max(3, row_px - 3)} />`}
          ${lane.rows === 1 && each.width > 60 && html`<text class="in" x=${each.x + 6} y=${y + 14 + row_px / 2 + 2}>${text.inSpan(each, shortDuration((each.span.to - each.span.from) / 1000))}</text>`}
        </g>`,
      )}
    </g>
  `;
}

function Marks({ fold, axis, y, label }) {
  const found = marks(fold.times_ms, axis);
  const path = found.map(({ x, count }) => `M${x + 0.5} ${y + MARKS_PX + 4}v${-Math.min(MARKS_PX, 6 + 2 * Math.log2(count))}`).join("");
  return html`<g class="marks"><text class="name" x="2" y=${y + 2}>${label}</text><path d=${path} /></g>`;
}

function Cost({ fold, axis, y, label }) {
  const most = fold.cost.at(-1).usd || 1;
  const at = (value) => y + COST_PX - (value / most) * (COST_PX - 14);
  let path = `M${axis.x(axis.from)} ${at(fold.cost.findLast(({ time }) => time < axis.from)?.usd ?? 0)}`;
  let drawn = 0;
  for (const { time, usd: sum } of fold.cost) {
    const x = axis.x(time);
    // One step a pixel: more are not seen.
    if (time < axis.from || time > axis.to || (x - drawn < 1 && sum !== most)) continue;
    path += `H${x.toFixed(1)}V${at(sum).toFixed(1)}`;
    drawn = x;
  }
  return html`
    <g class="cost">
      <text class="name" x="2" y=${y + 4}>${label}</text>
      <path d=${`${path}H${axis.width}`} />
      <text class="name" x=${axis.width - 2} y=${y + 4} text-anchor="end">${usd(fold.cost.at(-1).usd)}</text>
    </g>
  `;
}

/** The svg element; dragging over it shows that part of the time, a click selects the event there. */
function Brush({ axis, height, onPick, onZoom, children }) {
  const range = useSignal(null);
  const place = (event) => Math.max(0, Math.min(axis.width, event.clientX - event.currentTarget.getBoundingClientRect().left));
  const down = (event) => {
    if (event.button || event.pointerType === "touch") return;
    event.currentTarget.setPointerCapture(event.pointerId);
    range.value = { from: place(event), to: place(event) };
  };
  const move = (event) => {
    if (range.value) range.value = { ...range.value, to: place(event) };
  };
  const up = (event) => {
    if (!range.value && event.pointerType !== "touch") return;
    const { from, to } = range.value ?? { from: place(event), to: place(event) };
    range.value = null;
    if (Math.abs(to - from) < 6) onPick(axis.time(to));
    else onZoom(axis.time(Math.min(from, to)), axis.time(Math.max(from, to)));
  };
  const drawn = range.value && Math.abs(range.value.to - range.value.from) >= 6 ? range.value : null;
  return html`
    <svg width=${axis.width} height=${height} viewBox=${`0 0 ${axis.width} ${height}`} aria-hidden="true"
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${() => (range.value = null)}>
      ${children}
      ${drawn && html`<rect class="brush" x=${Math.min(drawn.from, drawn.to)} y="0" width=${Math.abs(drawn.to - drawn.from)} height=${height} />`}
    </svg>
  `;
}

/** The same as a table, for those who do not see the picture. */
function Twin({ fold, titles }) {
  const text = words();
  const open = useSignal(false);
  const rows = open.value ? fold.lanes.flatMap((lane) => lane.spans.slice(0, TABLE_ROWS).map((span) => ({ lane, span }))).slice(0, TABLE_ROWS) : [];
  const all = fold.lanes.reduce((sum, lane) => sum + lane.spans.length, 0);
  const iso = (time) => new Date(time).toISOString();
  return html`
    <details class="commands" onToggle=${(event) => (open.value = event.target.open)}>
      <summary>${text.asTable}</summary>
      ${open.value && html`<div class="scroll" tabindex="0" role="group" aria-label=${text.asTable}><table>
        <thead><tr><th>${text.columns.lane}</th><th>${text.columns.what}</th><th>${text.columns.from}</th><th>${text.columns.until}</th><th class="number">${text.columns.duration}</th></tr></thead>
        <tbody>${rows.map(({ lane, span }, index) => html`<tr key=${index}>
          <td>${laneName(lane, titles, text)}</td><td>${text.kinds[span.kind]}${span.attempt ? ` · ${text.attempt(span.attempt)}` : ""}</td>
          <td class="number">${clockTime(iso(span.from))}</td><td class="number">${span.open ? "" : clockTime(iso(span.to))}</td><td class="number">${duration((span.to - span.from) / 1000)}</td>
        </tr>`)}
        ${fold.cost.slice(-20).map(({ time, usd: sum }, index) => html`<tr key=${`c${index}`}><td>${text.cost}</td><td>${usd(sum)}</td><td class="number">${clockTime(iso(time))}</td><td></td><td></td></tr>`)}
        </tbody>
      </table></div>
      ${all > rows.length && html`<p class="hint">${text.firstRows(number(rows.length), number(all))}</p>`}`}
    </details>
  `;
}
