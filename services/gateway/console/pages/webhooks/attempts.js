// The attempts of a delivery: what was sent, byte for byte, and what was answered.
import { html, useSignal } from "../../vendor/preact.js";
import { get } from "../../api.js";
import { dateTime, duration, relative } from "../../format.js";
import { CopyButton } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { words } from "./words.js";

export function Attempts({ endpoint, delivery }) {
  const text = words();
  const path = `/v1/webhooks/${endpoint.id}/deliveries/${encodeURIComponent(delivery.id)}/attempts`;
  const attempts = useLoaded((signal) => get(path, {}, signal), [delivery.id, delivery.attempts]);
  return html`
    <${Loaded} of=${attempts}>${({ data }) => html`
      ${data.length === 0 && html`<p class="hint">${text.noAttempt}</p>`}
      <ol class="attempt-list">${data.map((attempt) => html`<${Attempt} key=${attempt.attempt} attempt=${attempt} path=${endpoint.format === "email" ? null : path} />`)}</ol>`}<//>
  `;
}

function Attempt({ attempt, path }) {
  const text = words();
  const open = useSignal(false);
  const good = attempt.error === null;
  return html`
    <li>
      <p><span class=${`state ${good ? "good" : "bad"}`}>${text.attempt(attempt.attempt)}: ${attempt.status ?? ""} ${good ? "" : (text.errors[attempt.error] ?? attempt.error)}</span>
        <span class="hint">${dateTime(attempt.at)} · ${duration(attempt.latency_ms / 1000)} · <code>${attempt.url_origin}</code>${attempt.next_attempt_at && ` · ${text.next(relative(attempt.next_attempt_at))}`}</span></p>
      ${attempt.response_excerpt ? html`<h3>${text.excerpt}</h3><pre class="answer" tabindex="0" aria-label=${text.excerpt}>${attempt.response_excerpt}</pre>` : html`<p class="hint">${text.noExcerpt}</p>`}
      ${path && html`<details onToggle=${(event) => (open.value = event.target.open)}><summary>${text.request}</summary>${open.value && html`<${Request} path=${`${path}/${attempt.attempt}/request`} />`}</details>`}
    </li>
  `;
}

function Request({ path }) {
  const text = words();
  const request = useLoaded((signal) => get(path, {}, signal), [path]);
  return html`<${Loaded} of=${request}>${(value) => html`
    <p class="hint">${value.exact ? text.exact : text.inexact}</p>
    <pre class="request" tabindex="0" aria-label=${text.request}>${wireOf(value, text.hidden)}</pre>
    <${CopyButton} text=${value.body} label=${text.copyBody} />`}<//>`;
}

/** Return a request as it goes over the wire; a header whose value is not shown has a note instead. */
export function wireOf({ method, target, headers, body }, hidden) {
  const lines = headers.map(({ name, value }) => `${name}: ${value ?? `[${hidden}]`}`);
  return `${method} ${target} HTTP/1.1\n${lines.join("\n")}\n\n${body}`;
}
