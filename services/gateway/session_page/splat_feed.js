// The newest model, at most once a second: asked for by its mark (ETag), so that the same one never comes twice.
import { Problem, problemOf } from "./session_link.js";

const EVERY_MS = 1000;
const NOT_YET = new Set([404, 409]);

export class SplatFeed {
  #etag = null;
  #shown = 0;
  #newest = 0;
  #busy = false;
  #notBefore = 0;

  // `take` is given the PLY's bytes and waited for; `fail` is told of a Problem.
  constructor(link, { maxSplats, take, fail }) {
    Object.assign(this, { link, maxSplats, take, fail, bytes: 0 });
  }

  // There is a version; after a reset they may count from the beginning.
  offer(version) {
    this.#newest = version;
    this.#go();
  }

  forget() {
    this.#etag = null;
    this.#shown = this.#newest = 0;
  }

  async #go() {
    if (this.#busy || this.#newest === this.#shown) return;
    this.#busy = true;
    await new Promise((resume) => setTimeout(resume, Math.max(0, this.#notBefore - performance.now())));
    const version = this.#newest;
    try {
      await this.#fetch();
      this.#shown = version;
    } catch (error) {
      this.fail(error instanceof Problem ? error : new Problem({ detail: `The model cannot be shown: ${error.message}` }));
      this.#shown = version;
    }
    this.#notBefore = performance.now() + EVERY_MS;
    this.#busy = false;
    this.#go();
  }

  async #fetch() {
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    const response = await this.link.fetch(`${this.link.path}/ply?max_splats=${this.maxSplats}`, { headers });
    if (response.status === 304 || NOT_YET.has(response.status)) return;
    if (!response.ok) throw await problemOf(response);
    const bytes = await response.arrayBuffer();
    this.bytes = bytes.byteLength;
    await this.take(bytes);
    this.#etag = response.headers.get("ETag");
  }
}
