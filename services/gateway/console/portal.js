// The console in the page of another system: the page of webhooks alone, by a signed link instead of a login.
//
// The link's token comes in the fragment, which no server and no log sees, and is kept in this module only. Requests
// carry it in a header and no cookie: what is clicked in a page of somebody else never acts as who is logged in here.

const given = /^#portal=(portal\.[\w.-]+)$/.exec(location.hash);
if (given) history.replaceState(null, "", location.pathname + location.search);

/** Token of the link; null for the console itself. */
export const token = given ? given[1] : null;

/** Whether a page of another origin shows this one. */
export const isFramedByOther = (() => {
  try {
    return window !== window.top && window.top.location.origin !== location.origin;
  } catch {
    return true;
  }
})();

/** Whether this browser's cookie must not be used, because the page is shown by another one or for somebody else. */
export const isPortal = token !== null || isFramedByOther;

export const withoutCookie = (address, options) => fetch(address, { ...options, credentials: "omit" });
