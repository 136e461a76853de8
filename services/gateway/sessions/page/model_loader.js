// The newest model, at most once a second and while somebody looks: asked for by its mark (ETag), so that the same one
// never comes twice.
import { Problem, problemOf } from "./session_client.js";

const EVERY_MS = 1000;
const AFTER_FAILURE_MS = 4000;
const NOT_YET = new Set([404, 409]);

export class SplatFeed {
  #etag = null;
  #shown = 0;
  #newest = 0;
  #busy = false;
  #forgotten = 0;
  #splats = null;
  #notBefore = 0;

  // `take` is given the PLY's bytes and waited for; `fail` is told of a Problem.
  constructor(link, { maxSplats, take, fail }) {
    Object.assign(this, { link, maxSplats, take, fail });
    document.addEventListener("visibilitychange", () => this.#go());
  }

  // There is a version, of so many splats; after a reset they may count from the beginning.
  offer(version, splats) {
    this.#newest = version;
    this.#splats = splats;
    this.#go();
  }

  // Ask once more: the last version may have been told of before it was there.
  refresh() {
    this.#shown = 0;
    this.#go();
  }

  forget() {
    this.#etag = null;
    this.#shown = this.#newest = 0;
    this.#forgotten += 1;
  }

  async #go() {
    if (this.#busy || document.hidden || this.#newest === this.#shown) return;
    this.#busy = true;
    await new Promise((resume) => setTimeout(resume, Math.max(0, this.#notBefore - performance.now())));
    const version = this.#newest;
    let wait = EVERY_MS;
    try {
      this.#shown = version;
      await this.#fetch();
    } catch (error) {
      this.fail(error instanceof Problem ? error : new Problem({ detail: `The model cannot be shown: ${error.message}` }));
      // What did not come may come yet; what came and cannot be read will not change.
      if (error instanceof Problem) [this.#shown, wait] = [0, AFTER_FAILURE_MS];
    }
    this.#notBefore = performance.now() + wait;
    this.#busy = false;
    this.#go();
  }

  async #fetch() {
    const forgotten = this.#forgotten;
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    // One that can be drawn whole needs no cutting.
    const cut = this.#splats > 0 && this.#splats <= this.maxSplats ? "" : `?max_splats=${this.maxSplats}`;
    const response = await this.link.fetch(`${this.link.path}/ply${cut}`, { headers });
    if (response.status === 304 || NOT_YET.has(response.status)) return;
    if (!response.ok) throw await problemOf(response);
    const bytes = await response.arrayBuffer();
    if (forgotten !== this.#forgotten) return;
    await this.take(bytes);
    this.#etag = response.headers.get("ETag");
  }
}
