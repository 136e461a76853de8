// Texts in the reader's language. Each folder with a page has its own words.js; those that pages share are below.
import { language } from "./preferences.js";

/**
 * Return a function that returns the texts of the chosen language.
 *
 * `texts` has the same names in each language; a value is a text, or a function that returns one. Read in a component,
 * the result is rendered again when the language changes.
 */
export function dictionary(texts) {
  const pseudo = pseudoOf(texts.en);
  return () => (language.value === "pseudo" ? pseudo : (texts[language.value] ?? texts.en));
}

const LONGER = { a: "áa", e: "ée", i: "íi", o: "óo", u: "úu" };

function pseudoOf(value) {
  if (typeof value === "string") return `[${value.replace(/[aeiou]/g, (letter) => LONGER[letter])}]`;
  if (typeof value === "function") return (...given) => pseudoOf(value(...given));
  if (Array.isArray(value)) return value.map(pseudoOf);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, text]) => [name, pseudoOf(text)]));
  return value;
}

export const common = dictionary({
  en: {
    pages: { start: "Start", jobs: "Jobs", live: "Live", events: "Events", webhooks: "Webhooks", operate: "Operate", keys: "Keys" },
    skip: "Skip to the content",
    menu: "Pages",
    search: "Find by id",
    searchHint: "Id of a job, session, upload, endpoint or replay",
    notAnId: "This is no id of Saccade: ids begin with job_, ses_, upl_, whk_, rpl_ or evt_.",
    theme: "Colours",
    themes: { system: "As the system", light: "Light", dark: "Dark" },
    language: "Language",
    zone: "Times",
    zones: { local: "Local time", utc: "UTC" },
    help: "Keys and help",
    logOut: "Log out",
    loading: "Loading …",
    late: "The server does not answer yet …",
    retry: "Try again",
    cancel: "Cancel",
    close: "Close",
    more: "Show more",
    copy: "Copy",
    copied: "Copied",
    asCommand: "The same as a command",
    cli: "On the command line",
    curl: "With curl",
    feed: { refused: "No event stream", connecting: "Connecting", open: "Events arrive live", lost: "Connection lost; trying again" },
    notFound: "There is no page at this address.",
    notFoundHint: "Choose one from the menu, or find an object by its id.",
    failed: "This could not be done",
    wanted: {
      waiting: (title) => `${title}: submitted as soon as the files are uploaded.`,
      sending: (title) => `${title}: being submitted.`,
      done: (title) => `${title}: submitted.`,
      failed: (title) => `${title} was not submitted`,
      open: "Open the job",
      back: "Back to its files",
    },
    reload: "This page could not be loaded: the server is away, or has another version of the console.",
    reloadNow: "Reload",
    states: {
      submitted: "Submitted", queued: "Queued", starting: "Starting", waiting_for_gpu: "Waiting for a GPU", running: "Running",
      interrupted: "Interrupted", retrying: "Retrying", succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled",
      opening: "Opening", ready: "Ready", stopping: "Stopping", stopped: "Stopped",
    },
    key: {
      title: "This server requires an API key",
      label: "API key",
      hint: "The key is sent once and is not stored in this browser: the server answers with a cookie that scripts cannot read and that ends after 12 hours.",
      enter: "Log in",
      wrong: "The server does not accept this key.",
      cannot: "Keys are not sent over a connection that others can read: open this page by https, or on the server's own machine.",
    },
    portal: {
      title: "This link has ended",
      hint: "Reload the page that shows the webhooks here: it gets a new link. Links last for minutes and open nothing else.",
    },
    shortcuts: {
      title: "Keys",
      go: (page) => `Go to ${page}`,
      search: "Find an object by its id",
      help: "Show this list",
      close: "Close a dialog",
    },
    references: "References",
    api: "API reference",
    eventReference: "Event reference",
  },
  de: {
    pages: { start: "Start", jobs: "Jobs", live: "Live", events: "Ereignisse", webhooks: "Webhooks", operate: "Betrieb", keys: "Schlüssel" },
    skip: "Zum Inhalt springen",
    menu: "Seiten",
    search: "Nach Kennung suchen",
    searchHint: "Kennung eines Jobs, einer Sitzung, eines Uploads, eines Endpunkts oder eines Replays",
    notAnId: "Das ist keine Kennung von Saccade: Kennungen beginnen mit job_, ses_, upl_, whk_, rpl_ oder evt_.",
    theme: "Farben",
    themes: { system: "Wie das System", light: "Hell", dark: "Dunkel" },
    language: "Sprache",
    zone: "Zeiten",
    zones: { local: "Ortszeit", utc: "UTC" },
    help: "Tasten und Hilfe",
    logOut: "Abmelden",
    loading: "Wird geladen …",
    late: "Der Server antwortet noch nicht …",
    retry: "Erneut versuchen",
    cancel: "Abbrechen",
    close: "Schließen",
    more: "Mehr anzeigen",
    copy: "Kopieren",
    copied: "Kopiert",
    asCommand: "Dasselbe als Befehl",
    cli: "Auf der Kommandozeile",
    curl: "Mit curl",
    feed: { refused: "Kein Ereignisstrom", connecting: "Verbindung wird aufgebaut", open: "Ereignisse kommen live an", lost: "Verbindung verloren; neuer Versuch läuft" },
    notFound: "Unter dieser Adresse gibt es keine Seite.",
    notFoundHint: "Wählen Sie eine aus dem Menü, oder suchen Sie ein Objekt nach seiner Kennung.",
    failed: "Das war nicht möglich",
    wanted: {
      waiting: (title) => `${title}: wird eingereicht, sobald die Dateien hochgeladen sind.`,
      sending: (title) => `${title}: wird eingereicht.`,
      done: (title) => `${title}: eingereicht.`,
      failed: (title) => `${title} wurde nicht eingereicht`,
      open: "Job öffnen",
      back: "Zurück zu den Dateien",
    },
    reload: "Diese Seite ließ sich nicht laden: Der Server antwortet nicht oder hat eine andere Version der Konsole.",
    reloadNow: "Neu laden",
    states: {
      submitted: "Eingereicht", queued: "In der Warteschlange", starting: "Startet", waiting_for_gpu: "Wartet auf eine GPU", running: "Läuft",
      interrupted: "Unterbrochen", retrying: "Neuer Versuch", succeeded: "Erfolgreich", failed: "Fehlgeschlagen", cancelled: "Abgebrochen",
      opening: "Wird geöffnet", ready: "Bereit", stopping: "Wird beendet", stopped: "Beendet",
    },
    key: {
      title: "Dieser Server verlangt einen API-Schlüssel",
      label: "API-Schlüssel",
      hint: "Der Schlüssel wird einmal gesendet und in diesem Browser nicht gespeichert: Der Server antwortet mit einem Cookie, das Skripte nicht lesen können und das nach 12 Stunden endet.",
      enter: "Anmelden",
      wrong: "Der Server nimmt diesen Schlüssel nicht an.",
      cannot: "Schlüssel werden nicht über eine Verbindung gesendet, die andere mitlesen können: Öffnen Sie diese Seite mit https oder auf dem Rechner des Servers.",
    },
    portal: {
      title: "Dieser Link gilt nicht mehr",
      hint: "Laden Sie die Seite neu, die hier die Webhooks zeigt: Sie erhält einen neuen Link. Links gelten für Minuten und öffnen nichts anderes.",
    },
    shortcuts: {
      title: "Tasten",
      go: (page) => `Zur Seite ${page}`,
      search: "Ein Objekt nach seiner Kennung suchen",
      help: "Diese Liste anzeigen",
      close: "Einen Dialog schließen",
    },
    references: "Referenzen",
    api: "API-Referenz",
    eventReference: "Ereignisreferenz",
  },
});
