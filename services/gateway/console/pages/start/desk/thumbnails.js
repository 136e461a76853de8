// Small pictures of dropped files, made in the browser: of a picture, or of the first frame of a video.

const WIDTH_PX = 240;
/** Larger pictures would need more memory to decode than a small preview is worth. */
const PICTURE_BYTES = 64 * 1024 ** 2;
const AT_ONCE = 2;
/** A file that says nothing for so long has no preview; it may still be a good input. */
const PATIENCE_MS = 8_000;

const waiting = [];
let running = 0;

/** Return {picture, width_px, height_px, duration_s} of a file; `picture` is an ImageBitmap; null if there is none. */
export function thumbnail(file, media) {
  return new Promise((resolve) => {
    waiting.push(async () => resolve(await (media === "video" ? ofVideo(file) : ofPicture(file)).catch(() => null)));
    next();
  });
}

async function next() {
  if (running >= AT_ONCE || waiting.length === 0) return;
  running += 1;
  try {
    await waiting.shift()();
  } finally {
    running -= 1;
    next();
  }
}

async function ofPicture(file) {
  if (file.size > PICTURE_BYTES) return null;
  const whole = await createImageBitmap(file);
  const { width, height } = whole;
  try {
    return { picture: await reduced(whole, width, height), width_px: width, height_px: height, duration_s: null };
  } finally {
    whole.close();
  }
}

async function ofVideo(file) {
  const url = URL.createObjectURL(file);
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
  try {
    await new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", resolve, { once: true });
      video.addEventListener("error", () => reject(new Error("unreadable")), { once: true });
      setTimeout(() => reject(new Error("no frame in time")), PATIENCE_MS);
      video.src = url;
    });
    const { videoWidth: width, videoHeight: height, duration } = video;
    return { picture: await reduced(video, width, height), width_px: width, height_px: height, duration_s: Number.isFinite(duration) ? duration : null };
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  }
}

function reduced(picture, width, height) {
  const resizeWidth = Math.min(WIDTH_PX, width);
  return createImageBitmap(picture, { resizeWidth, resizeHeight: Math.max(1, Math.round((resizeWidth * height) / width)), resizeQuality: "medium" });
}
