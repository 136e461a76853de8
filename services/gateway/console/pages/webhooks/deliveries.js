// Deliveries to an endpoint, newest event first, with the attempts of the chosen one.
import { html, useEffect, useSignal } from "../../vendor/preact.js";
import { call, may } from "../../api.js";
import { dateTime, relative } from "../../format.js";
import { Loaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { isPortal } from "../../portal.js";
import { href, route, setQuery } from "../../router.js";
import { Attempts } from "./attempts.js";
import { RedeliverAll } from "./redeliver.js";
import { useDeliveries } from "./shown_pages.js";
import { words } from "./words.js";

const STATES = ["pending", "delivered", "failed", "cancelled"];
const KINDS = { delivered: "good", failed: "bad", cancelled: "wait", pending: "fair" };
const REFRESH_MS = 3_000;

export function Deliveries({ endpoint }) {
  const text = words();
  const path = `/v1/webhooks/${endpoint.id}/deliveries`;
  const state = route.value.query.get("state");
  const chosen = route.value.query.get("delivery");
  const error = useSignal(null);
  const deliveries = useDeliveries(path, state);
  useEffect(() => {
    // Attempts are no events of the stream: while somebody looks, they are read again.
    const timer = setInterval(() => document.hidden || deliveries.poll(), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  const act = async (work) => {
    error.value = null;
    try {
      await work();
    } catch (problem) {
      error.value = problem;
    }
  };
  const redeliver = (delivery) =>
    act(async () => {
      await call("POST", `/v1/webhooks/${endpoint.id}/redeliver`, { body: { delivery_id: delivery.id } });
      deliveries.reload();
    });
  const body = (delivery) => html`
    <tr key=${delivery.id} class=${delivery.id === chosen ? "chosen" : ""}>
      <td data-label=${text.event}><div><button type="button" class="plain open" aria-expanded=${delivery.id === chosen} onClick=${() => setQuery({ delivery: delivery.id === chosen ? null : delivery.id })}><code>${delivery.event_type}</code></button>
        <div class="hint">${isPortal ? delivery.event_subject : html`<a href=${href("events", { cursor: delivery.id })}>${delivery.event_subject}</a>`}</div></div></td>
      <td data-label=${text.state}><span class=${`state ${KINDS[delivery.state]}`}>${text.states[delivery.state]}</span></td>
      <td data-label=${text.attempts} class="number">${delivery.attempts}</td>
      <td data-label=${text.answer}>${delivery.last_status ?? ""} ${delivery.last_error && delivery.last_error !== "http_status" ? (text.errors[delivery.last_error] ?? delivery.last_error) : ""}</td>
      <td data-label=${text.changed} title=${dateTime(delivery.updated_at)}>${relative(delivery.updated_at)}</td>
      <td><${Redeliver} delivery=${delivery} endpoint=${endpoint} onClick=${() => redeliver(delivery)} /></td>
    </tr>
    ${delivery.id === chosen && html`<tr class="attempts" key=${`${delivery.id} attempts`}><td colspan="6"><${Attempts} endpoint=${endpoint} delivery=${delivery} /></td></tr>`}
  `;
  return html`
    <section aria-labelledby="deliveries">
      <div class="row between"><h2 id="deliveries">${text.deliveries}</h2><${RedeliverAll} endpoint=${endpoint} onDone=${deliveries.reload} /></div>
      <div class="row states" role="group" aria-label=${text.state}>
        <button type="button" aria-pressed=${!state} onClick=${() => setQuery({ state: null })}>${text.allStates}</button>
        ${STATES.map((name) => html`<button type="button" key=${name} aria-pressed=${state === name} onClick=${() => setQuery({ state: name })}>${text.states[name]}</button>`)}
      </div>
      ${error.value && html`<${Problem} error=${error.value} />`}
      <${Loaded} of=${deliveries.loaded}>${() => (deliveries.rows.length === 0 ? html`<div class="empty"><p>${text.noDeliveries}</p><p>${text.noDeliveriesHint}</p></div>` : html`
        <table class="cards deliveries">
          <thead><tr><th>${text.event}</th><th>${text.state}</th><th class="number">${text.attempts}</th><th>${text.answer}</th><th>${text.changed}</th><th><span class="unseen">${text.actions}</span></th></tr></thead>
          <tbody>${deliveries.rows.map(body)}</tbody>
        </table>`)}<//>
      ${deliveries.hasMore && html`<p><button type="button" onClick=${() => act(deliveries.more)}>${text.older}</button></p>`}
    </section>
  `;
}

/** Sending one event again; while a try is due, that one comes, and a second would be a repeat. */
function Redeliver({ delivery, endpoint, onClick }) {
  const text = words();
  const reason = !may("write") ? text.needsWrite : !endpoint.enabled ? text.enableFirst : delivery.state === "pending" ? text.tryIsDue(Date.parse(delivery.next_attempt_at) > Date.now() ? relative(delivery.next_attempt_at) : "") : null;
  return html`<div><button type="button" data-do="redeliver" disabled=${reason !== null} onClick=${onClick}>${text.again}</button>${delivery.state === "pending" && html`<div class="hint">${reason}</div>`}</div>`;
}
