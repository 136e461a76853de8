// Exports that the console uses; the bundler drops everything else.
export { Fragment, h, render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { h } from "preact";
import htm from "htm";

/** Template tag that makes Preact elements: html`<p>${text}</p>`. */
export const html = htm.bind(function make(...given) {
  // htm keeps elements without values and uses them again. Preact notes in each element where it stands: the last page
  // that had one would stay in memory with all that it has loaded.
  this[0] = 3;
  return h(...given);
});
