"use strict";
// The page works without this. With it, what changes on the server changes here, and forms answer in place. Everything
// is made by the server: this fetches the page again and takes over its parts; no text ever becomes markup here.
(() => {
  const notice = document.getElementById("notice");
  const pause = document.getElementById("pause");
  let paused = false, loading = false, again = false, timer = 0;
  let base = Number(document.body.dataset.now), since = performance.now();

  const request = (method, url, body, done) => {
    const ask = new XMLHttpRequest();
    ask.open(method, url);
    ask.responseType = "document";
    ask.timeout = 20000;
    if (body) ask.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
    ask.onload = () => done(ask.response, ask.status);
    ask.onerror = ask.ontimeout = () => done(null, 0);
    ask.send(body);
  };

  const say = (text, bad) => {
    notice.classList.toggle("bad", Boolean(bad));
    if (notice.textContent !== text) notice.textContent = text;
  };

  // ---- times -----------------------------------------------------------------------------------------------------
  const distance = (seconds) => {
    const size = Math.abs(Math.round(seconds));
    const parts = [[Math.floor(size / 86400), "d"], [Math.floor(size / 3600) % 24, "h"], [Math.floor(size / 60) % 60, "min"], [size % 60, "s"]];
    const first = parts.findIndex((part) => part[0]);
    const shown = (first < 0 ? [] : parts.slice(first, first + 2)).filter((part) => part[0]).map((part) => part.join(" "));
    const text = shown.join(" ") || "0 s";
    return seconds >= 0 ? `in ${text}` : `${text} ago`;
  };
  const tick = () => {
    const now = base + (performance.now() - since) / 1000;
    for (const place of document.querySelectorAll("[data-until]")) {
      const text = distance(Number(place.dataset.until) - now);
      if (place.textContent !== text) place.textContent = text;
      const pill = place.closest("tr")?.querySelector(".pill.good[data-alive]");
      if (pill && Number(place.dataset.until) <= now) {
        pill.className = "pill";
        pill.textContent = "expired";
      }
    }
  };

  // ---- what changed ----------------------------------------------------------------------------------------------
  const rows = (mine, theirs) => {
    const known = new Map([...mine.children].map((row) => [row.dataset.key, row]));
    const wanted = [...theirs.children];
    const keys = new Set(wanted.map((row) => row.dataset.key));
    for (const [key, row] of known) if (!keys.has(key)) row.remove();
    let before = mine.firstElementChild;
    for (const row of wanted) {
      let place = known.get(row.dataset.key);
      if (!place || place.dataset.version !== row.dataset.version) {
        const made = document.importNode(row, true);
        if (place) {
          const held = place.contains(document.activeElement);
          if (before === place) before = made;
          place.replaceWith(made);
          if (held) made.querySelector("button")?.focus();
        } else {
          made.classList.add("fresh");
          setTimeout(() => made.classList.remove("fresh"), 1200);
        }
        place = made;
      }
      if (place === before) before = before.nextElementSibling;
      else mine.insertBefore(place, before);
    }
  };
  const take = (page) => {
    base = Number(page.body.dataset.now);
    since = performance.now();
    for (const theirs of page.querySelectorAll("[data-live]")) {
      const mine = document.querySelector(`[data-live="${theirs.dataset.live}"]`);
      if (!mine) continue;
      if (theirs.dataset.rows !== undefined && mine.dataset.rows !== undefined) rows(mine, theirs);
      else if (mine.dataset.version !== theirs.dataset.version) {
        const held = document.activeElement?.id;
        const inside = mine.contains(document.activeElement);
        mine.replaceWith(document.importNode(theirs, true));
        if (inside && held) document.getElementById(held)?.focus();
      }
    }
    tick();
  };
  const load = () => {
    if (loading) { again = true; return; }
    loading = true;
    request("GET", "/_ui/", null, (page, status) => {
      loading = false;
      if (status === 200 && page) take(page);
      else if (status === 403) say("This browser is no longer known to the server. Open the link that it printed.", true);
      if (again) { again = false; later(); }
    });
  };
  const later = () => {
    if (!timer) timer = setTimeout(() => { timer = 0; if (!paused) load(); }, 150);
  };

  // ---- forms -----------------------------------------------------------------------------------------------------
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.enhance) return;
    event.preventDefault();
    const button = event.submitter;
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    button?.setAttribute("aria-disabled", "true");
    const body = new URLSearchParams(new FormData(form, button)).toString();
    request("POST", form.getAttribute("action"), body, (page, status) => {
      delete form.dataset.busy;
      button?.removeAttribute("aria-disabled");
      const heard = page?.getElementById("notice");
      if (!page || !heard) { say("The server did not answer.", true); return; }
      if (form.dataset.enhance === "result" && status === 200) {
        const result = document.getElementById("result");
        result.replaceWith(document.importNode(page.getElementById("result"), true));
        document.getElementById("result-title")?.focus();
        say("");
      } else {
        say(heard.textContent, heard.classList.contains("bad"));
      }
      if (page.body.dataset.now) take(page);
    });
  });

  // ---- live ------------------------------------------------------------------------------------------------------
  const state = document.getElementById("live");
  const live = new EventSource("/_ui/events");
  live.onopen = () => { state.textContent = paused ? "Paused" : "Live"; later(); };
  live.onerror = () => { state.textContent = "Not connected"; };
  live.onmessage = later;
  pause.hidden = false;
  document.getElementById("reload").hidden = true;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    state.textContent = paused ? "Paused" : "Live";
    if (!paused) load();
  });
  addEventListener("pagehide", () => live.close());
  setInterval(() => { if (!paused) tick(); }, 1000);
  tick();
})();
