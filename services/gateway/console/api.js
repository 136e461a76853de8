// Access to the API through the JavaScript client, as any other page has it. In a browser that is logged in, the cookie
// goes with each request by itself.
import { signal } from "./vendor/preact.js";
import { Client } from "./vendor/saccade.js";
import { isPortal, token, withoutCookie } from "./portal.js";
import { base } from "./router.js";

export const client = new Client({
  url: location.origin + base,
  multiplex: false,
  ...(isPortal ? { apiKey: token ?? undefined, fetch: withoutCookie } : {}),
});

/** Who is logged in: {tenant, key_id, scopes, …}; null until it is known, `"none"` where a key is needed. */
export const session = signal(null);
/** Whether a key can be entered here: by TLS, or on the server's own machine. */
export const canLogIn = signal(true);

/** Return an address of this server for a path of the API, which begins with a slash; other addresses as they are. */
export const addressOf = (path) => (path.startsWith("/") ? base + path.slice(1) : path);

/** Call the API; on 401 the console asks for a key. */
export async function call(method, path, options = {}) {
  try {
    return await client.call(method, path, options);
  } catch (error) {
    if (error.status === 401) session.value = "none";
    throw error;
  }
}

export const get = (path, query, signal) => call("GET", path, { query, signal });

// A login or logout counts for all tabs of the browser: they have the cookie in common.
const changes = new BroadcastChannel(`saccade-session ${base}`);
changes.onmessage = () => void readSession().catch(() => {}); // the next request says what is wrong

/** Read who is logged in. */
export async function readSession() {
  if (isPortal && token === null) {
    session.value = "none";
    return;
  }
  try {
    const told = await client.call("GET", "/v1/browser-session");
    canLogIn.value = told.can_log_in;
    session.value = told.logged_in ? told : "none";
  } catch (error) {
    if (error.status !== 401) throw error;
    session.value = "none";
  }
}

/**
 * Log in with an API key, which is sent once and kept nowhere.
 *
 * Throws the server's problem, also for a wrong key.
 */
export async function logIn(key) {
  const keyed = new Client({ url: location.origin + base, apiKey: key, multiplex: false });
  try {
    session.value = await keyed.call("POST", "/v1/browser-session");
    changes.postMessage(null);
  } finally {
    keyed.close();
  }
}

/** Log out, and forget what was shown. */
export async function logOut() {
  await client.call("DELETE", "/v1/browser-session");
  changes.postMessage(null);
  location.reload();
}

/** Return whether the session may do what a scope names. */
export const may = (scope) => session.value !== null && session.value !== "none" && session.value.scopes.includes(scope);
