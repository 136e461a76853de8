import { html, useSignal } from "../../vendor/preact.js";
import { Dialog } from "../../parts/dialog.js";
import { words } from "./words.js";

/** A dialog that asks for the reason that goes into the audit log; `onClose(why)`, null when it is not done. */
export function WhyDialog({ title, confirm, danger, onClose, children }) {
  const why = useSignal("");
  return html`
    <${Dialog} title=${title} confirm=${confirm} danger=${danger} disabled=${!why.value.trim()} onClose=${(yes) => onClose(yes ? why.value.trim() : null)}>
      ${children}
      <label class="field"><span>${words().why}</span><input value=${why.value} onInput=${(event) => (why.value = event.target.value)} maxlength="500" required /></label>
    <//>
  `;
}
