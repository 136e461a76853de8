import { html } from "../vendor/preact.js";
import { common } from "../words.js";

const KINDS = {
  succeeded: "good", running: "run", starting: "run", failed: "bad", cancelled: "wait", stopped: "wait",
  interrupted: "fair", retrying: "fair", waiting_for_gpu: "fair", stopping: "fair",
};

/** A state in words, with a mark whose form also differs: colour alone says nothing to some readers. */
export function StateLabel({ state }) {
  return html`<span class=${`state ${KINDS[state] ?? "wait"}`}>${common().states[state] ?? state}</span>`;
}
