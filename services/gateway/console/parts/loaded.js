import { html, useEffect, useRef, useSignal } from "../vendor/preact.js";
import { Problem } from "./problem.js";
import { Waiting } from "./waiting.js";

/**
 * Return the state of something that is read from the server: {value, error, reload, poll, set}.
 *
 * `read` gets an AbortSignal and returns a promise; it is called again when one of `keys` changes. The old value stays
 * until the new one has come; the error of other keys is not shown. `reload` ends a reading that is under way; `poll`
 * waits for its end, or an answer slower than the polls would never be shown, nor its error.
 */
export function useLoaded(read, keys) {
  const state = useSignal({ value: undefined, error: null });
  const count = useSignal(0);
  const busy = useRef(0);
  useEffect(() => {
    const controller = new AbortController();
    busy.current += 1;
    const reading = read(controller.signal).then(
      (value) => controller.signal.aborted || (state.value = { value, error: null }),
      (error) => controller.signal.aborted || (state.value = { ...state.value, error, failedKeys: keys }),
    );
    void reading.finally(() => (busy.current -= 1));
    return () => controller.abort();
  }, [...keys, count.value]);
  const set = (value) => (state.value = { value, error: null });
  const reload = () => (count.value += 1);
  const poll = () => busy.current === 0 && reload();
  const { value, error, failedKeys } = state.value;
  return { value, error: failedKeys?.every((key, index) => key === keys[index]) ? error : null, reload, poll, set };
}

/** Show `children(value)` once a value is loaded, else that it is loading or why it failed. */
export function Loaded({ of, children }) {
  if (of.error) return html`<${Problem} error=${of.error} retry=${of.reload} />`;
  if (of.value === undefined) return html`<${Waiting} />`;
  return children(of.value);
}
