// The computer's camera as a source of frames.
import { Problem, nowS } from "./session_client.js";
import { t } from "./words.js";

const WIDTH = 640;
const QUALITY = 0.82;
export const SOURCE = "webcam";

const ERRORS = {
  NotAllowedError: [t("Access to the camera was denied."), t("Allow it in the address bar, then press the button again.")],
  NotFoundError: [t("This computer has no camera."), t("Connect one, then press the button again.")],
  OverconstrainedError: [t("The chosen camera is not connected any more."), t("Choose another one.")],
  NotReadableError: [t("The camera is in use by another program."), t("Close that program, then press the button again.")],
};

// A telephone has a front and a rear camera; elsewhere either means the only one.
const constraintsOf = (camera) =>
  camera === "environment" || camera === "user" ? { facingMode: { ideal: camera } } : { deviceId: { exact: camera } };

const problem = (detail, hint) => new Problem({ detail, hint });

export class Webcam {
  // `labels`: of the button that starts and stops it.
  constructor(client, video, { labels = [t("Use the webcam"), t("Stop the webcam")] } = {}) {
    Object.assign(this, { client, video, labels, sent: 0, skipped: 0, running: false, hz: 2, camera: "environment" });
    this.canvas = document.createElement("canvas");
  }

  // Throws a Problem. Calls while the browser asks for access are one call.
  start() {
    this.starting ??= this.#start().finally(() => { this.starting = null; });
    return this.starting;
  }

  async #start() {
    if (!navigator.mediaDevices) {
      throw problem(t("Browsers allow the camera on secure pages only."), t("Open this page over https, or on localhost."));
    }
    try {
      const video = { width: { ideal: WIDTH }, ...constraintsOf(this.camera) };
      this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw problem(...(ERRORS[error.name] ?? [t("The camera cannot be used: {0}", error.message), t("Try another one.")]));
    }
    this.video.srcObject = this.stream;
    await this.video.play();
    this.running = true;
    // The camera was unplugged, or another program took it.
    this.stream.getVideoTracks()[0].addEventListener("ended", () => this.stop());
    this.#trackCaptureTime();
    this.#next();
  }

  // Cameras of this computer as {id, label}; browsers tell them once a page may use one.
  async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId).map(({ deviceId: id, label }) => ({ id, label }));
  }

  // Use another camera: "environment" (rear), "user" (front), or the id of a device. Throws a Problem.
  async choose(camera) {
    this.camera = camera;
    if (!this.running) return;
    this.stop();
    await this.start();
  }

  stop() {
    this.running = false;
    clearTimeout(this.timer);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
    this.onstop?.();
  }

  // Capture time of the displayed picture, by the page's clock. Browsers that do not report it get the time of sending,
  // which is some tens of milliseconds too late.
  #trackCaptureTime() {
    this.takenS = null;
    if (!this.video.requestVideoFrameCallback) return;
    const onFrame = (_, { captureTime }) => {
      this.takenS = captureTime ? (performance.timeOrigin + captureTime) / 1000 : null;
      if (this.running) this.video.requestVideoFrameCallback(onFrame);
    };
    this.video.requestVideoFrameCallback(onFrame);
  }

  async #next() {
    const startMs = performance.now();
    await this.#send();
    if (!this.running) return;
    this.timer = setTimeout(() => this.#next(), Math.max(0, 1000 / this.hz - (performance.now() - startMs)));
  }

  async #send() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return;
    const scale = Math.min(1, WIDTH / width);
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const takenS = this.takenS ?? nowS();
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const picture = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
    // Milliseconds as sequence numbers keep growing when the page is reloaded.
    const header = { seq: Math.round(takenS * 1000), captured_at_s: takenS, source: SOURCE, content_type: "image/jpeg" };
    const offset = this.client.clockOffsetS;
    if (offset !== null) header.clock_offset_s = offset;
    if (header.seq === this.last) return;
    this.last = header.seq;
    if (picture && this.client.sendFrame(header, picture)) {
      this.sent += 1;
      this.onsent?.(header.seq);
    } else this.skipped += 1;
    this.onframe?.();
  }
}
