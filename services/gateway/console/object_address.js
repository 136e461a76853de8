// Address of the page that shows an object, from its id alone.
import { base, href } from "./router.js";

const ID = /^(job|stg|ses|upl|whk|rpl|evt|rul|dlv|jbp)_[0-9A-Za-z_-]+$/;

/** Return the address for an id; null for a text that is none. */
export function addressOfId(id) {
  const kind = ID.exec(id)?.[1];
  if (kind === "job" || kind === "stg") return href("jobs", id);
  if (kind === "jbp") return href("jobs", { plan: id });
  if (kind === "ses") return `${base}sessions/${id}`;
  if (kind === "whk") return href("webhooks", id);
  if (kind === "rpl") return href("operate", "replays", id);
  if (kind === "upl") return href("events", { subject: id });
  return kind ? href("events", { id }) : null;
}
