import { html, useEffect, useRef, useSignal } from "../vendor/preact.js";

/**
 * A search field whose text is in the address soon after somebody has typed: `onValue(text)`.
 *
 * While it has the focus it shows what was typed, whatever is painted meanwhile. It is never replaced by another element:
 * that one would not have the focus, and letters without a field are shortcuts.
 */
export function TypedSearch({ value, onValue, wait_ms, ...more }) {
  const typed = useSignal(null);
  const timer = useRef(0);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
      timer.current = 0; // browsers tell an element that is removed that it has lost the focus
    },
    [],
  );
  useEffect(() => {
    // The address has changed by something else, such as the browser's button to go back.
    if (!timer.current && typed.value !== null && typed.value.trim() !== value) typed.value = null;
  }, [value]);
  const hand = () => {
    clearTimeout(timer.current);
    timer.current = 0;
    onValue(typed.value.trim());
  };
  const onInput = ({ target }) => {
    typed.value = target.value;
    clearTimeout(timer.current);
    timer.current = setTimeout(hand, wait_ms);
  };
  const onBlur = () => {
    if (timer.current) hand();
    typed.value = null;
  };
  return html`<input type="search" ...${more} value=${typed.value ?? value} onInput=${onInput} onBlur=${onBlur} />`;
}
