// One event: its envelope, who says and who hears its type, and where it leads.
import { html } from "../../vendor/preact.js";
import { addressOfId } from "../../object_address.js";
import { dateTime, clockTime } from "../../format.js";
import { CopyButton } from "../../parts/commands.js";
import { href } from "../../router.js";
import { words } from "./words.js";

export function Details({ event, reference, onFilter, onRange, onClose }) {
  const text = words();
  const known = reference?.get(event.type);
  const permalink = event.cursor ? href("events", { cursor: event.cursor }) : event.id && href("events", { id: event.id });
  const isJob = /^(job|stg)_/.test(event.subject ?? "");
  const subjectAddress = event.subject && !isJob ? addressOfId(event.subject) : null;
  return html`
    <aside class="card event-details" aria-label=${text.details}>
      <div class="row between"><h2><code>${event.type}</code></h2><button type="button" class="plain" onClick=${onClose}>${text.close}</button></div>
      ${known && html`<p class="hint">${known.summary}</p>`}
      ${event.type === "gap" && html`<p class="hint">${text.gap}</p>`}
      <dl class="rows">
        <dt>${text.time}</dt><dd>${event.time ? html`${dateTime(event.time)} <span class="hint">${clockTime(event.time)}</span>` : "–"}</dd>
        ${event.subject && html`<dt>${text.subject}</dt><dd><code>${event.subject}</code></dd>`}
        ${event.id && html`<dt>${text.id}</dt><dd><code>${event.id}</code></dd>`}
        <dt>${text.cursor}</dt><dd>${event.cursor ? html`<code>${event.cursor}</code> <${CopyButton} text=${event.cursor} label=${text.copyCursor} />` : text.noCursor}</dd>
        ${known && html`<dt>${text.said}</dt><dd>${known.said.join(", ") || "–"}</dd><dt>${text.heard}</dt><dd>${known.heard.join(", ") || "–"}</dd>`}
      </dl>
      <p></p>
      <div class="row">
        ${isJob && html`<a class="button" href=${href("jobs", event.subject, { at: event.cursor })}>${event.cursor ? text.jobThen : text.jobNow}</a>`}
        ${subjectAddress && html`<a class="button" href=${subjectAddress}>${text.openSubject}</a>`}
        ${permalink && html`<${CopyButton} text=${location.origin + permalink} label=${text.copyLink} />`}
        ${event.subject && html`<button type="button" onClick=${() => onFilter({ subject: event.subject })}>${text.onlySubject}</button>`}
        <button type="button" onClick=${() => onFilter({ type: event.type })}>${text.onlyType}</button>
        ${event.cursor && html`<button type="button" onClick=${() => onRange("from", event.cursor)}>${text.rangeFrom}</button>
          <button type="button" onClick=${() => onRange("to", event.cursor)}>${text.rangeTo}</button>`}
      </div>
      <h3>${text.envelope}</h3>
      <pre tabindex="0" aria-label=${text.envelope}>${JSON.stringify(event.envelope, null, 2)}</pre>
    </aside>
  `;
}
