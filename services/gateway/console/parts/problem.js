import { html } from "../vendor/preact.js";
import { common } from "../words.js";

/** An error of the API: what happened, what to do, and its code. `retry` adds a button. */
export function Problem({ error, title, retry }) {
  const words = common();
  return html`
    <div class="note bad" role="alert">
      <p><b>${title ?? words.failed}.</b> ${error.message}</p>
      ${error.hint && html`<p class="hint">${error.hint}</p>`}
      <p class="hint"><code>${error.code ?? error.name}</code>${error.requestId && html` · <code>${error.requestId}</code>`}</p>
      ${retry && html`<button type="button" onClick=${retry}>${words.retry}</button>`}
    </div>
  `;
}
