// The timeline on a narrow screen: from top to bottom, what ran and waited one after another.
import { html } from "../../../vendor/preact.js";
import { duration, number, usd } from "../../../format.js";
import { laneName, stepsOf } from "./timeline.js";
import { words } from "./words.js";

/** Steps that are in the document: those around the shown point, or the newest. */
const MOST = 150;

/** As `Timeline` has them; `shown` is {from, to}, a part of the time, and `gaps` are those that are folded. */
export function Steps({ fold, titles, selected, marked, gaps, shown, onSelect }) {
  const text = words();
  const all = stepsOf(fold, gaps, shown);
  const current = selected === null ? -1 : all.findLastIndex(({ from, span }) => span && from <= fold.times_ms[selected]);
  const mark = marked === null ? -1 : all.findLastIndex(({ from, span }) => span && from <= fold.times_ms[marked]);
  const first = Math.max(0, Math.min(all.length - MOST, (current < 0 ? all.length : current) - MOST / 2));
  const rows = all.slice(first, first + MOST);
  const after = (time) => `+${duration((time - fold.begin_ms) / 1000)}`;
  return html`
    <ol class="steps">
      ${rows.map((step, index) => {
        const at = first + index;
        if (step.gap) return html`<li key=${`g${step.from}`} class="gap">⋯ ${duration((step.to - step.from) / 1000)}</li>`;
        if (step.usd !== undefined) return html`<li key=${`c${step.from}`} class="paid"><span class="number">${after(step.from)}</span> ${text.cost} <b class="number">${usd(step.usd)}</b></li>`;
        const { lane, span } = step;
        const told = `${text.kinds[span.kind]}${span.attempt ? ` · ${text.attempt(span.attempt)}` : ""} · ${duration((span.to - span.from) / 1000)}`;
        return html`
          <li key=${`${lane.key} ${span.row} ${span.from}`} class=${`step ${span.kind}`}>
            <button type="button" aria-current=${at === current ? "true" : undefined} onClick=${() => onSelect(span.index)}>
              <span class="number">${after(span.from)}</span><span><b>${laneName(lane, titles, text)}</b>${at === mark && html` <span class="chip">${text.marked}</span>`}<br /><span class="hint">${told}</span></span>
            </button>
          </li>
        `;
      })}
    </ol>
    ${all.length > rows.length && html`<p class="hint">${text.someSteps(number(rows.length), number(all.length))}</p>`}
  `;
}
