// The filter of the list, as chips; all of it is in the address.
import { html } from "../../vendor/preact.js";
import { fieldTime, timeField, timeLabel } from "../../format.js";
import { TypedSearch } from "../../parts/typed_search.js";
import { setQuery } from "../../router.js";
import { words } from "./words.js";

const TYPING_MS = 200;
const FAMILIES = ["job.*", "session.*", "upload.*", "webhook.*", "rule.*", "budget.*"];

/** Return the filter that an address names. */
export const filterOf = (query) => ({
  types: query.getAll("type"),
  subjects: query.getAll("subject"),
  text: query.get("text") ?? "",
});

export function Filters({ query, reference }) {
  const text = words();
  const { types, subjects, text: wanted } = filterOf(query);
  const since = query.get("since") ?? "";
  const until = query.get("until") ?? "";
  const toggle = (name, list, value) =>
    setQuery({ [name]: list.includes(value) ? list.filter((item) => item !== value) : [...list, value] });
  const addSubject = (event) => {
    event.preventDefault();
    const field = event.target.elements.subject;
    if (field.value.trim()) setQuery({ subject: [...new Set([...subjects, field.value.trim()])] });
    field.value = "";
  };
  const addType = (event) => {
    if (event.target.value) setQuery({ type: [...new Set([...types, event.target.value])] });
    event.target.value = "";
  };
  const period = (event) => {
    event.preventDefault();
    const { from, to } = event.target.elements;
    setQuery({ since: fieldTime(from.value), until: fieldTime(to.value), cursor: null, id: null });
  };
  const chip = (label, remove) => html`<span class="chip">${label}<button type="button" class="plain remove" aria-label=${text.remove(label)} onClick=${remove}>×</button></span>`;
  const single = types.filter((type) => !FAMILIES.includes(type));
  return html`
    <div class="event-filters">
      <div class="row">
        <${TypedSearch} value=${wanted} onValue=${(typed) => setQuery({ text: typed })} wait_ms=${TYPING_MS} aria-label=${text.filter} placeholder=${text.filter} />
        <form onSubmit=${addSubject}><input name="subject" aria-label=${text.subjectFilter} placeholder=${text.subjectFilter} autocomplete="off" spellcheck="false" /></form>
        <select aria-label=${text.addType} onChange=${addType}>
          <option value="">${text.addType}</option>
          ${[...(reference?.keys() ?? [])].map((type) => html`<option key=${type} value=${type}>${type}</option>`)}
        </select>
        <details class="period"><summary>${text.period}</summary>
          <form class="card" onSubmit=${period}>
            <label class="field"><span>${timeLabel(text.from)}</span><input type="datetime-local" step="1" name="from" defaultValue=${timeField(since, { seconds: true })} required /></label>
            <label class="field"><span>${timeLabel(text.to)}</span><input type="datetime-local" step="1" name="to" defaultValue=${timeField(until, { seconds: true })} /></label>
            <p class="hint">${text.periodHint}</p>
            <button class="primary">${text.show}</button>
          </form>
        </details>
      </div>
      <div class="row" role="group" aria-label=${text.types}>
        ${FAMILIES.map((family) => html`<button type="button" key=${family} class="chip" aria-pressed=${types.includes(family)} onClick=${() => toggle("type", types, family)}><code>${family}</code></button>`)}
        ${single.map((type) => chip(type, () => toggle("type", types, type)))}
        ${subjects.map((subject) => chip(subject, () => toggle("subject", subjects, subject)))}
        ${since && chip(text.since(since), () => setQuery({ since: null, until: null }))}
        ${until && chip(text.until(until), () => setQuery({ until: null }))}
      </div>
    </div>
  `;
}
