import { html } from "../../vendor/preact.js";
import { CopyButton } from "../../parts/commands.js";
import { words } from "./words.js";

/** The signing secret of a new or changed endpoint: the server shows it only now. */
export function Secret({ endpoint, onClose }) {
  const text = words();
  return html`
    <section class="note good" aria-label=${text.secret}>
      <h2>${text.secret}</h2>
      <p>${text.secretOnce(endpoint.url)}</p>
      <p><code class="secret">${endpoint.secret}</code> <${CopyButton} text=${endpoint.secret} /></p>
      ${endpoint.public_keys.length > 0 && endpoint.signing !== "v1" && html`<p class="hint">${text.publicKey} <code>${endpoint.public_keys[0].whpk}</code></p>`}
      <button type="button" onClick=${onClose}>${text.secretStored}</button>
    </section>
  `;
}
