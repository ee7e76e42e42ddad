// Progressive enhancement: every page works without this, and a reload then shows what would have appeared automatically.
"use strict";

const said = document.getElementById("said");
const say = (text) => { if (said && said.textContent !== text) said.textContent = text; };

// times tell how long ago they are

const distance = (seconds) => {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
};

const tell = () => {
  for (const time of document.querySelectorAll("main time")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const text = seconds >= 0 ? `${distance(seconds)} ago` : `in ${distance(-seconds)}`;
    if (time.textContent !== text) time.textContent = text;
  }
};
setInterval(tell, 1000);

// A session has its own root, which only its addresses contain. Tabs of this origin share the latest one.

const ROOT = /^\/~[^/]+/;
const here = () => location.pathname.match(ROOT)?.[0] ?? "";
const kept = () => { try { return localStorage.getItem("root") ?? ""; } catch { return ""; } };
const keep = (root) => { try { if (root) localStorage.setItem("root", root); else localStorage.removeItem("root"); } catch { /* it is off */ } };
const alive = async (root) => ROOT.test(root) && await fetch(`${root}/alive`, { credentials: "same-origin" }).then((answer) => answer.json()).catch(() => false);

if (document.body.dataset.session !== undefined) keep(here());

const login = document.getElementById("login");

// A link has its code behind the #, which no server sees. It may be pasted into a tab that is open here already.

const enter = () => {
  if (location.hash.length < 2) return false;
  login.elements.secret.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  login.submit();
  return true;
};

// Another tab may be logged in: then this one uses its session.

const join = async () => {
  const root = kept();
  if (!root) return;
  if (!await alive(root)) { keep(""); return; }
  const { next, resume } = login.elements;
  if (!resume) { location.replace(root + (next.value.startsWith("/") ? next.value : "/")); return; }
  login.action = root + resume.value;
  login.elements.secret.value = "";
  login.submit();
};

if (login) {
  addEventListener("hashchange", enter);
  if (!enter() && !document.querySelector(".wrong")) join();
}

const offerCopies = () => {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      say("Copied");
    });
  }
};
offerCopies();

// a field for one of many names: some that have in them what was typed

for (const field of document.querySelectorAll("input[data-suggest]")) {
  let asked = 0;
  field.addEventListener("input", async () => {
    const number = ++asked;
    const answer = await fetch(`${field.dataset.suggest}?q=${encodeURIComponent(field.value)}`, { credentials: "same-origin" }).catch(() => null);
    if (!answer?.ok || number !== asked) return;
    field.list.replaceChildren(...(await answer.json()).map((name) => new Option("", name)));
  });
}

for (const log of document.querySelectorAll("[data-follow]")) log.scrollTo(0, log.scrollHeight);

// live: told that the page has changed, it fetches itself and takes over the parts that are marked so

let events = document.body.dataset.events;
let source = null;
let fetching = false;
let again = false;
let leaving = false; // a form was sent: its outcome is a note on the next page, which must not appear before

const busy = (part) => {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) return true;
  return [...part.querySelectorAll("input, textarea, select")].some((field) => field === document.activeElement || changed(field));
};

// keep what a person has typed or chosen

const changed = (field) => {
  if (!field.options) return field.value !== field.defaultValue || field.checked !== field.defaultChecked;
  const options = [...field.options];
  const first = Math.max(0, options.findIndex((option) => option.defaultSelected));
  return !field.multiple && field.selectedIndex !== first;
};

// a log that is read at its end stays there, and elsewhere where it is

const scrolled = (part) => [...part.querySelectorAll("[data-follow]")].map((old) => {
  const atEnd = old.scrollTop + old.clientHeight >= old.scrollHeight - 4;
  return [old.id, atEnd ? Infinity : old.scrollTop];
});

const scroll = (places) => {
  for (const [id, top] of places) document.getElementById(id)?.scrollTo(0, Math.min(top, 1e9));
};

const place = (part) => {
  const focused = document.activeElement;
  if (!focused || !part.contains(focused) || focused === part) return () => {};
  const kind = focused.tagName.toLowerCase();
  const same = (other) => other.getAttribute("href") === focused.getAttribute("href")
    && other.textContent === focused.textContent
    && (other.form ? other.form.getAttribute("action") : null) === (focused.form ? focused.form.getAttribute("action") : null);
  return (fresh) => [...fresh.querySelectorAll(kind)].find(same)?.focus({ preventScroll: true });
};

const typed = () => [...document.querySelectorAll("main :is(input:not([type=hidden]), textarea, select)")].some(changed);

// show the other page instead, unless typed text would be lost

const instead = (text) => { if (typed()) say(text); else location.reload(); };

// every form has the token of the session

const parsed = (text) => new DOMParser().parseFromString(text, "text/html");
const tokenOf = (page) => page.querySelector("input[name=csrf]")?.value;
const sign = (token) => { for (const field of document.querySelectorAll("input[name=csrf]")) field.value = token; };

// this page's session has ended, and another tab has started one: the page continues in that

const adopt = async () => {
  const before = here();
  const root = kept();
  if (!before || root === before || !await alive(root)) return false;
  const moved = (address) => (address?.startsWith(before) ? root + address.slice(before.length) : address);
  const answer = await fetch(moved(location.pathname) + location.search, { credentials: "same-origin" }).catch(() => null);
  const token = answer?.ok && tokenOf(parsed(await answer.text()));
  if (!token) return false;
  sign(token);
  history.replaceState(history.state, "", moved(location.pathname) + location.search + location.hash);
  for (const name of ["href", "action", "data-suggest"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) element.setAttribute(name, moved(element.getAttribute(name)));
  }
  close();
  events = moved(events);
  open();
  return true;
};

const refresh = async () => {
  if (leaving) return;
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const state = document.querySelector("[data-state]")?.dataset.state || "1"; // what is being edited was made from
    const answer = await fetch(location.href, { headers: { "x-live": state }, credentials: "same-origin" });
    if (answer.redirected) {
      if (await adopt()) again = true;
      else instead("You're logged out. Log in in another tab, then continue here");
      return;
    }
    if (answer.status >= 500) { say("Reconnecting…"); setTimeout(refresh, 3000); return; }
    const fresh = parsed(await answer.text());
    const parts = [...document.querySelectorAll("[data-live]")];
    if (!answer.ok && parts.length) { instead("This page's subject no longer exists"); return; }
    document.body.dataset.seen = fresh.body.dataset.seen;
    sign(tokenOf(fresh));
    for (const part of parts) {
      const other = fresh.getElementById(part.id);
      if (other && "gather" in part.dataset) { part.append(...document.adoptNode(other).childNodes); continue; }
      if (!other || other.innerHTML === part.dataset.was || busy(part)) continue;
      const back = place(part);
      const places = scrolled(part);
      part.dataset.was = other.innerHTML;
      part.replaceChildren(...document.adoptNode(other).childNodes);
      back(part);
      scroll(places);
    }
    tell();
    say("Live");
  } catch {
    say("Reconnecting…");
  } finally {
    fetching = false;
    if (again) { again = false; setTimeout(refresh, 300); }
  }
};

const open = () => {
  if (source || leaving || document.hidden) return;
  source = new EventSource(`${events}${events.includes("?") ? "&" : "?"}seen=${document.body.dataset.seen}`);
  source.addEventListener("open", () => { say("Live"); });
  source.addEventListener("changed", refresh);
  source.addEventListener("error", () => {
    say("Reconnecting…");
    if (source.readyState === EventSource.CLOSED) { source = null; setTimeout(() => { open(); refresh(); }, 3000); }
  });
};

const close = () => { source?.close(); source = null; };

if (events && document.querySelector("[data-live]")) {
  open();
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); refresh(); } });
  document.addEventListener("submit", (event) => { if (!event.defaultPrevented) { leaving = true; close(); } });
  addEventListener("storage", (event) => { if (event.key === "root") refresh(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) { leaving = false; open(); refresh(); } });
}
