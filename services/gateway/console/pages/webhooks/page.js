// Endpoints that get signed events: the list, and the page of one.
import { html, useSignal } from "../../vendor/preact.js";
import { get, may } from "../../api.js";
import { number, relative } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { loadCss } from "../../parts/load_css.js";
import { go, route, setQuery } from "../../router.js";
import { Endpoint } from "./endpoint.js";
import { EndpointForm } from "./endpoint_form.js";
import { to } from "./links.js";
import { Secret } from "./secret.js";
import { Verify } from "./verify.js";
import { words } from "./words.js";

loadCss(import.meta.url);

/** Endpoints whose last deliveries the list reads: one request each. */
const WITH_HEALTH = 30;
const RECENT = 50;

export default function Webhooks({ path }) {
  return path[0] ? html`<${Endpoint} key=${path[0]} id=${path[0]} />` : html`<${List} />`;
}

function List() {
  const text = words();
  const made = useSignal(null);
  const endpoints = useLoaded((signal) => get("/v1/webhooks", {}, signal), []);
  const asked = route.value.query.get("new") === "1";
  const done = (endpoint) => {
    made.value = endpoint;
    setQuery({ new: null });
    if (endpoint) endpoints.reload();
  };
  return html`
    <div class="page-head">
      <div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div>
      ${!asked && html`<button type="button" class="primary" disabled=${!may("write")} title=${may("write") ? undefined : text.needsWrite} onClick=${() => setQuery({ new: 1 })}>${text.create}</button>`}
    </div>
    ${!may("write") && html`<p class="hint">${text.needsWrite}</p>`}
    ${asked && may("write") && html`<${EndpointForm} endpoint=${null} onDone=${done} />`}
    ${made.value && html`<${Secret} endpoint=${made.value} onClose=${() => go(to(made.value.id))} />`}
    <${Loaded} of=${endpoints}>${({ data }) => (data.length === 0 ? !asked && !made.value && html`<div class="empty"><p>${text.none}</p><p>${text.noneHint}</p></div>` : html`<${Table} endpoints=${data} />`)}<//>
    <${Verify} />
    <${Commands} cli="saccade webhooks list" path="/v1/webhooks" />
  `;
}

function Table({ endpoints }) {
  const text = words();
  return html`
    <table class="cards">
      <thead><tr><th>${text.endpoint}</th><th>${text.state}</th><th>${text.events}</th><th>${text.recent}</th></tr></thead>
      <tbody>
        ${endpoints.map(
          (endpoint, index) => html`<tr key=${endpoint.id}>
            <td data-label=${text.endpoint}><div><a href=${to(endpoint.id)}>${endpoint.url}</a>${endpoint.description && html`<div class="hint">${endpoint.description}</div>`}</div></td>
            <td data-label=${text.state}><${EndpointState} endpoint=${endpoint} /></td>
            <td data-label=${text.events}>${endpoint.types.length ? html`<code>${endpoint.types.join(", ")}</code>` : text.all}</td>
            <td data-label=${text.recent}>${index < WITH_HEALTH ? html`<${Health} id=${endpoint.id} />` : "–"}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  `;
}

/** Whether an endpoint gets events, and why not. */
export function EndpointState({ endpoint }) {
  const text = words();
  if (endpoint.enabled) return html`<span class="state good">${text.enabled}</span>`;
  const why = text.reasons[endpoint.disabled_reason] ?? text.disabledByHand;
  return html`<span><span class="state bad">${text.disabled}</span> <span class="hint">${why}</span></span>`;
}

function Health({ id }) {
  const text = words();
  const deliveries = useLoaded((signal) => get(`/v1/webhooks/${id}/deliveries`, { limit: RECENT }, signal), [id]);
  if (deliveries.error) return html`<span class="hint">${deliveries.error.message}</span>`;
  if (!deliveries.value) return html`<span class="hint">…</span>`;
  const { data } = deliveries.value;
  if (data.length === 0) return html`<span class="hint">${text.nothingSent}</span>`;
  const count = (state) => data.filter((delivery) => delivery.state === state).length;
  const [good, bad, waiting] = [count("delivered"), count("failed"), count("pending")];
  const kind = bad ? "bad" : waiting && data.some((one) => one.state === "pending" && one.attempts) ? "fair" : "good";
  return html`<span><span class=${`state ${kind}`}>${text.health(number(good), number(data.length))}</span>
    <span class="hint">${[bad && text.failedCount(number(bad)), waiting && text.pendingCount(number(waiting)), relative(data[0].updated_at)].filter(Boolean).join(" · ")}</span></span>`;
}
