import { useEffect, useSignal } from "../vendor/preact.js";
import { get } from "../api.js";

const POLL_MS = 700;

/**
 * Return a plan that the server carries out, read until it has ended: {value, error, retry}.
 *
 * `onEnd(wasRunning)` is called at its end; whether it was running when it was read before.
 */
export function usePlan(path, onEnd) {
  const plan = useSignal(null);
  const error = useSignal(null);
  const tries = useSignal(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const read = async () => {
      try {
        const wasRunning = plan.value?.state === "running";
        plan.value = await get(path, {}, stop.signal);
        error.value = null;
        if (plan.value.state === "running") timer = setTimeout(read, POLL_MS);
        else onEnd(wasRunning);
      } catch (problem) {
        if (!stop.signal.aborted) error.value = problem;
      }
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path, tries.value]);
  return { value: plan.value, error: error.value, retry: () => (tries.value += 1) };
}
