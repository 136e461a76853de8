// Form of the filters; each change is in the address at once.
import { html } from "../../../vendor/preact.js";
import { get } from "../../../api.js";
import { fieldTime, number, timeField, timeLabel } from "../../../format.js";
import { useLoaded } from "../../../parts/loaded.js";
import { TypedSearch } from "../../../parts/typed_search.js";
import { href, setQuery } from "../../../router.js";
import { common } from "../../../words.js";
import { STATES } from "./filters.js";
import { words } from "./words.js";

const TYPING_MS = 350;

export function Filters({ filters, counts }) {
  const text = words();
  const states = common().states;
  const workloads = useLoaded(() => get("/v1/workloads"), []);
  const toggle = (state) =>
    setQuery({ state: filters.state.includes(state) ? filters.state.filter((each) => each !== state) : [...filters.state, state] });
  const time = (name) => ({ target }) => setQuery({ [name]: fieldTime(target.value) });
  const names = (workloads.value?.data ?? []).filter(({ kind }) => kind !== "session").map(({ name }) => name);
  if (filters.workload && !names.includes(filters.workload)) names.push(filters.workload);
  const chosen = ["rule", "pipeline", "plan", "at"].filter((name) => filters[name]);
  return html`
    <form class="filters" role="search" aria-label=${text.filters} onSubmit=${(event) => event.preventDefault()}>
      <label class="wide">${text.q}<${TypedSearch} name="q" value=${filters.q ?? ""} onValue=${(q) => setQuery({ q })} wait_ms=${TYPING_MS} placeholder=${text.qHint} /></label>
      <label>${text.columns.workload}<select name="workload" value=${filters.workload ?? ""} onChange=${({ target }) => setQuery({ workload: target.value })}>
        <option value="">${text.any}</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
      <label>${timeLabel(text.since)}<input type="datetime-local" name="since" value=${timeField(filters.since)} onChange=${time("since")} /></label>
      <label>${timeLabel(text.until)}<input type="datetime-local" name="until" value=${timeField(filters.until)} onChange=${time("until")} /></label>
      <label>${text.rule}<input name="rule" class="mono" size="12" value=${filters.rule ?? ""} placeholder="rul_…" onChange=${({ target }) => setQuery({ rule: target.value.trim() })} /></label>
    </form>
    <div class="row states" role="group" aria-label=${text.columns.state}>
      ${STATES.filter((state) => filters.state.includes(state) || !counts || counts.by_state[state]).map(
        (state) => html`<button type="button" key=${state} aria-pressed=${String(filters.state.includes(state))} onClick=${() => toggle(state)}>${states[state]}${counts ? html` <span class="number">${number(counts.by_state[state] ?? 0)}</span>` : ""}</button>`,
      )}
      ${chosen.map((name) => html`<button type="button" key=${name} aria-pressed="true" onClick=${() => setQuery({ [name]: null })}>${text.chosen[name]}: <code>${filters[name]}</code> ×</button>`)}
      ${(filters.state.length > 0 || filters.q || filters.workload || filters.since || filters.until || chosen.length > 0) && html`<a href=${href("jobs")}>${text.removeFilters}</a>`}
    </div>
  `;
}
