// The job at any of its events: a slider whose last position is now.
import { html } from "../../../vendor/preact.js";
import { dateTime, number } from "../../../format.js";
import { words } from "./words.js";

/** `onMark` sets a mark at the shown event, to see what changed since. */
export function Slider({ count, selected, event, onSelect, onMark }) {
  const text = words();
  const value = selected === null ? count : Math.max(0, selected);
  const step = (by) => onSelect(value + by >= count ? null : Math.max(0, value + by));
  const label = event ? `${event.type.replace(/^job\./, "")}, ${dateTime(event.time)}` : text.now;
  return html`
    <div class="slider">
      <button type="button" aria-label=${text.earlier} disabled=${value === 0} onClick=${() => step(-1)}>◂</button>
      <input type="range" min="0" max=${count} step="1" value=${value} aria-label=${text.slider} aria-valuetext=${label}
        onInput=${({ target }) => onSelect(Number(target.value) >= count ? null : Number(target.value))} />
      <button type="button" aria-label=${text.later} disabled=${selected === null} onClick=${() => step(1)}>▸</button>
      <button type="button" disabled=${selected === null} onClick=${() => onSelect(null)}>${text.now}</button>
      <button type="button" onClick=${onMark}>${text.setMark}</button>
      <output class="hint number">${label} · ${number(Math.min(count, value + 1))}/${number(count)}</output>
    </div>
  `;
}
