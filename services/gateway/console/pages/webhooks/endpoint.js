// One endpoint: what it gets, how it does, and what one can do with it.
import { html, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { dateTime, duration } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Dialog } from "../../parts/dialog.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { go, route, setQuery } from "../../router.js";
import { Deliveries } from "./deliveries.js";
import { EndpointForm } from "./endpoint_form.js";
import { to } from "./links.js";
import { EndpointState } from "./page.js";
import { Secret } from "./secret.js";
import { Verify } from "./verify.js";
import { words } from "./words.js";

export function Endpoint({ id }) {
  const text = words();
  const path = `/v1/webhooks/${id}`;
  const endpoint = useLoaded((signal) => get(path, {}, signal), [id]);
  return html`
    <p><a href=${to()}>← ${text.title}</a></p>
    <${Loaded} of=${endpoint}>${(value) => html`<${Shown} endpoint=${value} path=${path} reload=${endpoint.reload} set=${endpoint.set} />`}<//>
  `;
}

function Shown({ endpoint, path, reload, set }) {
  const text = words();
  const asked = useSignal(null);
  const error = useSignal(null);
  const secret = useSignal(null);
  const answer = useSignal(null);
  const sent = useSignal(0);
  const editing = route.value.query.get("edit") === "1" && may("write");
  const act = (work) => async () => {
    error.value = null;
    try {
      await work();
    } catch (problem) {
      error.value = problem;
    }
  };
  const test = act(async () => {
    answer.value = "sending";
    try {
      answer.value = await call("POST", `${path}/test`);
    } catch (problem) {
      answer.value = null;
      throw problem;
    }
  });
  const enable = act(async () => set(await call("PATCH", path, { body: { enabled: !endpoint.enabled } })));
  const confirmed = { rotate: act(async () => ((secret.value = await call("POST", `${path}/rotate-secret`)), set(secret.value))), remove: act(async () => (await call("DELETE", path), go(to()))) };
  const closed = (which) => (yes) => {
    asked.value = null;
    if (yes) void confirmed[which]();
  };
  const button = (label, onClick, more = {}) => html`<button type="button" disabled=${!may("write")} onClick=${onClick} ...${more}>${label}</button>`;
  return html`
    <div class="page-head">
      <div><h1>${endpoint.description || new URL(endpoint.url).host || endpoint.url}</h1><p class="quiet"><code>${endpoint.url}</code></p></div>
      <div class="row">
        ${button(text.test, test, { class: "primary", "data-do": "test" })}
        ${button(text.change, () => setQuery({ edit: 1 }))}
        ${button(endpoint.enabled ? text.disable : text.enable, enable)}
        ${button(text.rotate, () => (asked.value = "rotate"))}
        ${button(text.remove, () => (asked.value = "remove"), { class: "danger" })}
      </div>
    </div>
    ${!may("write") && html`<p class="hint">${text.needsWrite}</p>`}
    ${asked.value === "rotate" && html`<${Dialog} title=${text.rotate} confirm=${text.rotate} onClose=${closed("rotate")}><p>${text.rotateHint}</p><//>`}
    ${asked.value === "remove" && html`<${Dialog} title=${text.remove} confirm=${text.remove} danger=${true} onClose=${closed("remove")}><p>${text.removeHint}</p><//>`}
    ${error.value && html`<${Problem} error=${error.value} />`}
    ${secret.value && html`<${Secret} endpoint=${secret.value} onClose=${() => (secret.value = null)} />`}
    ${answer.value && html`<${TestAnswer} answer=${answer.value} />`}
    ${editing && html`<${EndpointForm} endpoint=${endpoint} onDone=${(changed) => (changed && set(changed), setQuery({ edit: null }))} />`}
    <section class="card"><${Facts} endpoint=${endpoint} /></section>
    <${Deliveries} key=${sent.value} endpoint=${endpoint} />
    <${Verify} />
    <${Commands} cli=${`saccade webhooks deliveries ${endpoint.id}`} path=${`${path}/deliveries`} />
  `;
}

function Facts({ endpoint }) {
  const text = words();
  return html`
    <dl class="rows">
      <dt>${text.state}</dt><dd><${EndpointState} endpoint=${endpoint} /></dd>
      <dt>${text.id}</dt><dd><code>${endpoint.id}</code></dd>
      <dt>${text.events}</dt><dd>${endpoint.types.length ? html`<code>${endpoint.types.join(", ")}</code>` : text.all}</dd>
      <dt>${text.fields.format}</dt><dd>${text.formats[endpoint.format]}</dd>
      <dt>${text.fields.signing}</dt><dd>${text.signings[endpoint.signing]}${endpoint.signing !== "v1" && endpoint.public_keys.map((key) => html`<div key=${key.kid}><code>${key.whpk}</code></div>`)}</dd>
      ${endpoint.header_names.length > 0 && html`<dt>${text.fields.headers}</dt><dd><code>${endpoint.header_names.join(", ")}</code></dd>`}
      ${endpoint.rate_per_s !== null && html`<dt>${text.fields.rate_per_s}</dt><dd>${endpoint.rate_per_s}</dd>`}
      ${endpoint.ordered && html`<dt>${text.fields.ordered}</dt><dd>${text.yes}</dd>`}
      ${endpoint.template && html`<dt>${text.fields.template}</dt><dd><pre>${endpoint.template}</pre></dd>`}
      ${endpoint.previous_secrets_expire_at.length > 0 && html`<dt>${text.earlierSecrets}</dt><dd>${endpoint.previous_secrets_expire_at.map(dateTime).join(", ")}</dd>`}
      <dt>${text.created}</dt><dd>${dateTime(endpoint.created_at)}</dd>
    </dl>
  `;
}

function TestAnswer({ answer }) {
  const text = words();
  if (answer === "sending") return html`<div class="note" aria-live="polite"><p>${text.sending}</p></div>`;
  const status = answer.status ?? text.errors[answer.error] ?? answer.error;
  return html`
    <div class=${`note test-answer ${answer.delivered ? "good" : "bad"}`} aria-live="polite">
      <p><b>${answer.delivered ? text.testDelivered : text.testFailed}</b> ${status} · ${duration(answer.latency_ms / 1000)}</p>
      ${answer.response_excerpt && html`<pre class="answer">${answer.response_excerpt}</pre>`}
      ${answer.message && html`<p class="hint">${text.message}</p><pre>${answer.message.text}</pre>`}
    </div>
  `;
}
