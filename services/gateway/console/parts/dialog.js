import { html, useEffect, useRef } from "../vendor/preact.js";
import { common } from "../words.js";

/** A modal dialog, open while it is shown; `onClose(true)` after `confirm`, `onClose(false)` else. */
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
          <button value="no">${words.cancel}</button>
          <button value="yes" class=${danger ? "danger" : "primary"} disabled=${disabled}>${confirm}</button>
        </div>
      </form>
    </dialog>
  `;
}
