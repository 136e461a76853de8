// The address as a signal. Every state of a page that somebody might send to somebody else is in it.
import { batch, signal } from "./vendor/preact.js";

/** Public path of the server, with a slash at both ends. */
export const base = new URL(document.baseURI).pathname;
const ROOT = `${base}console`;

/** Decode a segment of the path; one that is not well-formed stays as it is, and names nothing that there is. */
const decoded = (segment) => {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
};

const read = () => ({
  /** Segments after /console: ["jobs", "job_…"]. */
  path: location.pathname.slice(ROOT.length).split("/").filter(Boolean).map(decoded),
  query: new URLSearchParams(location.search),
});

export const route = signal(read());

/** Return the address of a page: href("jobs", jobId) or href("jobs", { state: "failed" }). */
export function href(...parts) {
  const query = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    value === null || value === undefined || value === "" ? [] : [].concat(value).map((item) => [name, String(item)]),
  );
  const path = [ROOT, ...parts.map(encodeURIComponent)].join("/");
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}

/** Go to an address of the console; `replace` leaves no entry in the browser's history. */
export function go(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  batch(() => {
    route.value = read();
  });
}

/** Change parts of the query and keep the rest; null or "" removes one. */
export function setQuery(changes, { replace = true } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const item of [].concat(value ?? [])) if (item !== "") query.append(name, String(item));
  }
  const text = query.toString();
  go(location.pathname + (text ? `?${text}` : "") + location.hash, { replace });
}

/** Let links inside the console change the page without loading it again. */
export function followLinks() {
  addEventListener("popstate", () => {
    route.value = read();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname !== ROOT && !link.pathname.startsWith(`${ROOT}/`)) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    go(link.href);
    scrollTo(0, 0);
  });
}
