// Log of a job's events: each row is a link to the job as of its event.
import { html } from "../../../vendor/preact.js";
import { clockTime, number } from "../../../format.js";
import { CopyButton } from "../../../parts/commands.js";
import { VirtualList } from "../../../parts/virtual_list.js";
import { href, route } from "../../../router.js";
import { MOST_EVENTS } from "./history.js";
import { summaryOf } from "./summary.js";
import { words } from "./words.js";

/** Stage and shard of a stage's job, from its id: "capture-000". */
const shardOf = (id) => /-([a-z_]+-\d+)$/.exec(id)?.[1] ?? id.slice(-6);

/** `last` is the index of the newest event that is shown. */
export function Log({ jobId, events, last, selected }) {
  const text = words();
  const keep = Object.fromEntries([...route.value.query].filter(([name]) => name !== "at"));
  const row = (index) => {
    const event = events[index];
    return html`
      <a key=${event.id} class="event" href=${href("jobs", jobId, { ...keep, at: event.cursor })} aria-current=${index === selected ? "true" : undefined}>
        <span class="number">${clockTime(event.time)}</span> <b>${event.type.replace(/^job\./, "")}</b>
        <span>${event.subject === jobId ? "" : `${shardOf(event.subject)} · `}${summaryOf(event).filter(Boolean).join(" · ")}</span>
      </a>
    `;
  };
  return html`
    <${VirtualList} count=${last + 1} row=${row} tail=${true} label=${text.log} rowHeight_px=${30} />
    ${events.length >= MOST_EVENTS && html`<p class="hint">${text.mostEvents(number(MOST_EVENTS))}</p>`}
  `;
}

/** One event whole. */
export function EventDetails({ event }) {
  const text = words();
  return html`
    <details class="commands" open>
      <summary>${text.eventAt} <b>${event.type}</b> · <code>${event.cursor}</code></summary>
      <div class="row"><${CopyButton} text=${event.cursor} label=${text.copyCursor} /> <a href=${href("events", { cursor: event.cursor })}>${text.inEvents}</a></div>
      <pre>${JSON.stringify(event.data, null, 2).slice(0, 20_000)}</pre>
    </details>
  `;
}
