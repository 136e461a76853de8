// The key in use, its tenant and its scopes.
import { html } from "../../vendor/preact.js";
import { session } from "../../api.js";
import { dateTime } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { words } from "./words.js";

export default function Keys() {
  const text = words();
  const { key_id: keyId, tenant, scopes, expires_at: expiresAt } = session.value;
  return html`
    <div class="page-head"><div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div></div>
    ${!keyId && html`<div class="note"><p>${text.none}</p><p class="hint">${text.noneHint}</p></div>`}
    <section class="card">
      <dl class="rows">
        ${keyId && html`<dt>${text.id}</dt><dd><code>${keyId}</code></dd>`}
        <dt>${text.tenant}</dt><dd><code>${tenant}</code></dd>
        <dt>${text.scopes}</dt><dd>${scopes.map((scope) => html`<div key=${scope}>${text.meanings[scope] ?? scope}</div>`)}</dd>
        ${expiresAt && html`<dt>${text.expires}</dt><dd>${dateTime(expiresAt)}</dd>`}
      </dl>
    </section>
    <${Commands} path="/v1/browser-session" />
  `;
}
