// The address as a signal. Every state of a page that somebody might send to somebody else is in it.
import { batch, signal } from "./vendor/preact.js";

/** Public path of the server, with a slash at both ends. */
export const base = new URL(document.baseURI).pathname;
const ROOT = `${base}console`;

/** Browsers refuse more than a hundred changes of the address in 10 to 30 seconds; a slider makes one for each step. */
const WRITE_MS = 350;
/** The address that the browser's follows soon; null: it is the browser's. */
let pending = null;
let timer = 0;
let writtenMs = -WRITE_MS;

const address = () => pending ?? new URL(location.href);

function write() {
  history.replaceState(history.state, "", pending);
  writtenMs = performance.now();
  forget();
}

function forget() {
  clearTimeout(timer);
  pending = null;
}

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
  path: address().pathname.slice(ROOT.length).split("/").filter(Boolean).map(decoded),
  query: new URLSearchParams(address().search),
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

const isOfConsole = ({ pathname }) => pathname === ROOT || pathname.startsWith(`${ROOT}/`);

/** Go to an address, mostly of the console; `replace` leaves no entry in the browser's history. */
export function go(to, { replace = false } = {}) {
  if (!isOfConsole(new URL(to, document.baseURI))) return location.assign(to);
  // The entry of the history that is left is the newest address.
  if (!replace && pending) write();
  if (!replace) history.pushState(null, "", to);
  else {
    if (!pending) timer = setTimeout(write, WRITE_MS);
    pending = new URL(to, document.baseURI);
    if (performance.now() - writtenMs >= WRITE_MS) write();
  }
  batch(() => {
    route.value = read();
  });
}

/** Change parts of the query and keep the rest; null or "" removes one. */
export function setQuery(changes, { replace = true } = {}) {
  const { pathname, search, hash } = address();
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const item of [].concat(value ?? [])) if (item !== "") query.append(name, String(item));
  }
  const text = query.toString();
  go(pathname + (text ? `?${text}` : "") + hash, { replace });
}

/** Let links inside the console change the page without loading it again. */
export function followLinks() {
  addEventListener("popstate", () => {
    forget();
    route.value = read();
  });
  document.addEventListener("click", (event) => {
    if (pending) write(); // also before a link that leaves the console
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!isOfConsole(link)) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    go(link.href);
    scrollTo(0, 0);
  });
}
