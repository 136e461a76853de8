import { href, route } from "../../router.js";

/** Return the address of the list, or of an endpoint; an embedded page stays one. */
export const to = (...parts) => href("webhooks", ...parts, { embed: route.value.query.get("embed") });
