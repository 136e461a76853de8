import { html, useEffect, useSignal } from "../vendor/preact.js";
import { common } from "../words.js";

/** After so long without an answer the page says so: a server that hangs looks like one that is slow. */
const LATE_MS = 5_000;

/** That something is loading, and after a while that the server does not answer. */
export function Waiting() {
  const isLate = useSignal(false);
  useEffect(() => {
    const timer = setTimeout(() => (isLate.value = true), LATE_MS);
    return () => clearTimeout(timer);
  }, []);
  return html`<p class="quiet" role="status">${isLate.value ? common().late : common().loading}</p>`;
}
