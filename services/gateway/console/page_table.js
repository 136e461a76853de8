// Pages by the first segment of the address. Each is loaded when it is first shown.
export const PAGES = {
  start: { load: () => import("./pages/start/page.js"), key: "s", icon: "M4 12l8-8 8 8M6 10v9h12v-9" },
  jobs: { load: () => import("./pages/jobs/page.js"), key: "j", icon: "M4 6h16M4 12h16M4 18h10" },
  live: { load: () => import("./pages/live/page.js"), key: "l", icon: "M3 7h12v10H3zM15 11l6-3v8l-6-3" },
  events: { load: () => import("./pages/events/page.js"), key: "e", icon: "M3 12h4l3-7 4 14 3-7h4" },
  webhooks: { load: () => import("./pages/webhooks/page.js"), key: "w", icon: "M4 6h16v12H4zM4 7l8 6 8-6" },
  operate: { load: () => import("./pages/operate/page.js"), key: "o", icon: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 3v3M12 18v3M3 12h3M18 12h3", scope: "operate" },
  keys: { load: () => import("./pages/keys/page.js"), key: "k", icon: "M8 15a4 4 0 110-6l9 0v3h3v3h-3M8 12h.01" },
};

/** Return the name of the page for an address; "start" without one, null where there is none. */
export const pageOf = (path) => (path.length === 0 ? "start" : Object.hasOwn(PAGES, path[0]) ? path[0] : null);
