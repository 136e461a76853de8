// Loads the newest model, at most once a second and only while the page is visible; the ETag avoids loading the same
// model twice.
import { Problem, problemOf } from "./session_client.js";
import { t } from "./words.js";

const INTERVAL_MS = 1000;
const RETRY_DELAY_MS = 4000;
const NO_MODEL_YET = new Set([404, 409]);

export class ModelLoader {
  #etag = null;
  #loaded = 0;
  #newest = 0;
  #busy = false;
  #resets = 0;
  #splats = null;
  #notBefore = 0;

  // `take` is called with the PLY's bytes and awaited; `fail` is called with a Problem.
  constructor(client, { maxSplats, take, fail }) {
    Object.assign(this, { client, maxSplats, take, fail });
    document.addEventListener("visibilitychange", () => this.#loadNext());
  }

  // A version with this many splats is available; after a reset, versions may start again at 1.
  offer(version, splats) {
    this.#newest = version;
    this.#splats = splats;
    this.#loadNext();
  }

  // Load once more: the last version may have been announced before it was stored.
  refresh() {
    this.#loaded = 0;
    this.#loadNext();
  }

  forget() {
    this.#etag = null;
    this.#loaded = this.#newest = 0;
    this.#resets += 1;
  }

  async #loadNext() {
    if (this.#busy || document.hidden || this.#newest === this.#loaded) return;
    this.#busy = true;
    await new Promise((resume) => setTimeout(resume, Math.max(0, this.#notBefore - performance.now())));
    const version = this.#newest;
    let wait = INTERVAL_MS;
    try {
      this.#loaded = version;
      await this.#fetch();
    } catch (error) {
      this.fail(error instanceof Problem ? error : new Problem({ detail: t("The model cannot be shown: {0}", error.message) }));
      // A failed request is retried; a model that cannot be read will not change.
      if (error instanceof Problem) [this.#loaded, wait] = [0, RETRY_DELAY_MS];
    }
    this.#notBefore = performance.now() + wait;
    this.#busy = false;
    this.#loadNext();
  }

  async #fetch() {
    const resets = this.#resets;
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    // A model below the limit is loaded whole.
    const cut = this.#splats > 0 && this.#splats <= this.maxSplats ? "" : `?max_splats=${this.maxSplats}`;
    const response = await this.client.fetch(`${this.client.path}/ply${cut}`, { headers });
    if (response.status === 304 || NO_MODEL_YET.has(response.status)) return;
    if (!response.ok) throw await problemOf(response);
    const bytes = await response.arrayBuffer();
    if (resets !== this.#resets) return;
    await this.take(bytes);
    this.#etag = response.headers.get("ETag");
  }
}
