// What pages do beyond links and forms. A page without this is whole; with it, it is up to date.

const ROWS_MAX = 200; // of a live list: older ones make room
const narrow = matchMedia("(max-width: 720px)");

function start(root) {
  for (const time of root.querySelectorAll("time[data-time]")) localize(time);
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
}

// 2026-11-23 12:00:01.250 in the reader's zone; UTC stays in the title.
function localize(time) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const two = (n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const ms = time.closest("tr, .timeline") ? "." + String(at.getMilliseconds()).padStart(3, "0") : "";
  time.textContent = `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${ms}`;
}

function themes() {
  const button = document.querySelector("[data-theme-switch]");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("daybook-theme", root.dataset.theme);
  });
}

function menus() {
  const menu = document.querySelector("[data-menu]");
  const fold = () => { if (menu) menu.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
}

function said(pulse, text) {
  if (pulse && pulse.textContent !== text) pulse.textContent = text;
}

// Puts new elements where those with their ids are. What is open stays open; what somebody is in
// with the keyboard is left alone until they leave it.
function swap(markup) {
  const fresh = new DOMParser().parseFromString(markup, "text/html").body;
  for (const next of [...fresh.children]) {
    const old = next.id && document.getElementById(next.id);
    if (!old || old.contains(document.activeElement) || old.isEqualNode(next)) continue;
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    [...next.querySelectorAll("details")].forEach((one, i) => { if (i in open) one.open = open[i]; });
    old.replaceWith(next);
    start(next);
  }
}

function feeds() {
  const pulse = document.querySelector("[data-feed]");
  if (!pulse) return;
  const body = document.querySelector("[data-feed-rows] tbody");
  const pause = document.querySelector("[data-feed-pause]");
  const clear = document.querySelector("[data-feed-clear]");
  let paused = false;
  let waiting = "";
  let count = 0;
  const live = () => said(pulse, body ? `live · ${count} events so far` : "live");
  const show = () => {
    // A row alone is no document's child: it is read within a table.
    const page = new DOMParser().parseFromString(`<table><tbody>${waiting}</tbody></table>`, "text/html");
    waiting = "";
    for (const row of [...page.querySelectorAll("tr")]) {
      start(row);
      body.prepend(row);
      count += 1;
    }
    while (body.rows.length > ROWS_MAX) body.lastElementChild.remove();
    live();
  };
  const source = new EventSource(pulse.dataset.feed);
  source.addEventListener("open", live);
  source.addEventListener("error", () => said(pulse, "not connected; trying again"));
  source.addEventListener("over", () => {
    source.close();
    said(pulse, "ended; reload the page");
  });
  source.addEventListener("problem", () => {
    source.close();
    said(pulse, "your session has ended; reload the page");
  });
  source.addEventListener("swap", (event) => swap(event.data));
  source.addEventListener("rows", (event) => {
    waiting += event.data;
    if (!paused) show();
  });
  for (const button of [pause, clear]) if (button) button.hidden = false;
  pause?.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) show();
  });
  clear?.addEventListener("click", () => body.replaceChildren());
  addEventListener("pagehide", () => source.close());
}

// Parts of a page that are asked for again every few seconds, while somebody looks.
function refreshes() {
  const parts = [...document.querySelectorAll("[data-refresh][id]")];
  if (parts.length === 0) return;
  const every = Math.min(...parts.map((part) => Number(part.dataset.refresh) || 5000));
  const again = async () => {
    if (document.visibilityState === "visible") {
      try {
        // Said, so that a page that was left open does not keep its session.
        const headers = { accept: "text/html", "daybook-by-itself": "1" };
        const answer = await fetch(location.href, { headers });
        if (answer.redirected) { location.reload(); return; }
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          swap(parts.map((part) => page.getElementById(part.id)?.outerHTML ?? "").join(""));
        }
      } catch { /* the server is away: the next look may find it */ }
    }
    setTimeout(again, every);
  };
  setTimeout(again, every);
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("button[data-copy]");
  if (!copy) return;
  await navigator.clipboard.writeText(copy.dataset.copy);
  const before = copy.textContent;
  copy.textContent = "✓";
  setTimeout(() => { copy.textContent = before; }, 1200);
});

document.addEventListener("submit", (event) => {
  const ask = event.target.dataset.confirm;
  if (ask && !confirm(ask)) event.preventDefault();
});

// A slider that leads to a moment: the form it is in goes there when it is let go.
document.addEventListener("input", (event) => {
  const slider = event.target.closest("input[data-slider]");
  if (slider) document.getElementById(slider.dataset.slider).textContent = slider.value;
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-go]")) event.target.form.requestSubmit();
});

start(document);
themes();
menus();
feeds();
refreshes();
