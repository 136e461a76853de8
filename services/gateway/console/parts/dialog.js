import { html, useEffect, useRef } from "../vendor/preact.js";
import { common } from "../words.js";

/**
 * A modal dialog, open while it is shown; `onClose(true)` after `confirm`, `onClose(false)` else.
 *
 * `confirm` is its only button that submits: Enter in a field presses the first of them, and a field that is required
 * would keep another one from closing the dialog.
 */
export function Dialog({ title, confirm, danger = false, disabled = false, onClose, children }) {
  const dialog = useRef(null);
  const words = common();
  useEffect(() => {
    if (!dialog.current.open) dialog.current.showModal();
  }, []);
  const close = (event) => onClose(event.target.returnValue === "yes");
  return html`
    <dialog ref=${dialog} aria-label=${title} onClose=${close}>
      <form method="dialog">
        <h2>${title}</h2>
        ${children}
        <div class="row end">
          <button type="button" value="no" onClick=${() => dialog.current.close("no")}>${words.cancel}</button>
          <button value="yes" class=${danger ? "danger" : "primary"} disabled=${disabled}>${confirm}</button>
        </div>
      </form>
    </dialog>
  `;
}
