import { html, useEffect, useLayoutEffect, useRef, useSignal } from "../vendor/preact.js";

/**
 * A list of rows of one height, of which only the visible ones are in the document.
 *
 * `row(index)` returns the element of a row. With `tail`, the list stays at its end while rows are added, until the
 * reader scrolls up; where rows are also removed or added before the first, `origin` counts them (removed less added),
 * so that what the reader looks at stays. `shown` is the index of a row to bring into view. Other properties go to
 * the list's element.
 */
export function VirtualList({ count, rowHeight_px = 30, row, tail = false, origin = 0, shown = -1, label, role = "log", ...more }) {
  const box = useRef(null);
  const first = useSignal(0);
  const visible = useSignal(30);
  const atEnd = useRef(true);
  const before = useRef(origin);
  const measure = () => {
    const element = box.current;
    if (!element) return; // a scroll that is told when the list has left its page
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
    const moved = origin - before.current;
    before.current = origin;
    if (tail && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
    else if (moved) box.current.scrollTop -= moved * rowHeight_px;
  }, [count, tail, origin]);
  useEffect(() => {
    const element = box.current;
    if (shown < 0) return;
    const top = shown * rowHeight_px;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + rowHeight_px > element.scrollTop + element.clientHeight) element.scrollTop = top + rowHeight_px - element.clientHeight;
  }, [shown]);
  const last = Math.min(count, first.value + visible.value);
  const start = Math.min(first.value, Math.max(0, count - visible.value));
  const rows = [];
  for (let index = start; index < last; index += 1) rows.push(row(index));
  const place = (element) => element && Object.assign(element.style, { transform: `translateY(${start * rowHeight_px}px)` });
  const size = (element) => element && Object.assign(element.style, { height: `${count * rowHeight_px}px` });
  return html`
    <div class="virtual" ref=${box} onScroll=${measure} role=${role} aria-live=${role === "log" ? "off" : undefined} aria-label=${label} tabindex="0" ...${more}>
      <div class="space" ref=${size}><div class="window" ref=${place}>${rows}</div></div>
    </div>
  `;
}
