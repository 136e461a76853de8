import { html, useLayoutEffect, useRef, useSignal } from "../vendor/preact.js";

/**
 * A list of rows of one height, of which only the visible ones are in the document.
 *
 * `row(index)` returns the element of a row. With `tail`, the list stays at its end while rows are added, until the
 * reader scrolls up.
 */
export function VirtualList({ count, rowHeight_px = 30, row, tail = false, label, role = "log" }) {
  const box = useRef(null);
  const first = useSignal(0);
  const visible = useSignal(30);
  const atEnd = useRef(true);
  const measure = () => {
    const element = box.current;
    first.value = Math.max(0, Math.floor(element.scrollTop / rowHeight_px) - 4);
    visible.value = Math.ceil(element.clientHeight / rowHeight_px) + 8;
    atEnd.current = element.scrollTop + element.clientHeight >= element.scrollHeight - 2 * rowHeight_px;
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (tail && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [count, tail]);
  const last = Math.min(count, first.value + visible.value);
  const rows = [];
  for (let index = Math.min(first.value, Math.max(0, count - visible.value)); index < last; index += 1) rows.push(row(index));
  const top = Math.min(first.value, Math.max(0, count - visible.value)) * rowHeight_px;
  const place = (element) => element && Object.assign(element.style, { transform: `translateY(${top}px)` });
  const size = (element) => element && Object.assign(element.style, { height: `${count * rowHeight_px}px` });
  return html`
    <div class="virtual" ref=${box} onScroll=${measure} role=${role} aria-live="off" aria-label=${label} tabindex="0">
      <div class="space" ref=${size}><div class="window" ref=${place}>${rows}</div></div>
    </div>
  `;
}
