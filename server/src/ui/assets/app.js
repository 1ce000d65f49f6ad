// What pages do beyond links and forms. A page without this is whole; with it, it is up to date.

const ROWS_MAX = 200; // of a live list: older ones make room
const narrow = matchMedia("(max-width: 720px)");

function start(root) {
  for (const time of root.querySelectorAll("time[data-time]")) localize(time);
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
  for (const scrub of root.querySelectorAll("input[data-scrub]")) moments(scrub);
}

// 2026-11-23 12:00:01 in the reader's zone.
function local(at) {
  const two = (n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// A moment in the reader's zone; UTC stays in the title.
function localize(time) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const ms = time.closest("tr, .timeline") ? "." + String(at.getMilliseconds()).padStart(3, "0") : "";
  time.textContent = local(at) + ms;
}

// 1 234.5, with the thin spaces that pages have.
function grouped(text) {
  return text.replace("-", "\u2212").replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, "\u202f");
}

// A chart's moments: what its lines were where the pointer is, or where the arrow keys went.
let looked = null; // which chart, and at which of its points; kept when it is drawn anew
function moments(scrub) {
  const plot = scrub.parentElement;
  const at = scrub.dataset.at.split("|");
  const lines = scrub.dataset.values.split("|").map((line) => {
    const [name, values] = line.split("=");
    return { name, values: values.split(",") };
  });
  const [cross, tip] = ["cross", "tip"].map((name) => {
    const part = document.createElement("div");
    part.className = name;
    part.hidden = true;
    part.setAttribute("aria-hidden", "true");
    plot.append(part);
    return part;
  });
  const look = (i) => {
    const value = (line) => (line.values[i] ? `${grouped(line.values[i])} ${scrub.dataset.unit}` : "–");
    const said = lines.map((line) => `${line.name} ${value(line)}`);
    scrub.value = i;
    scrub.setAttribute("aria-valuetext", [at[i], ...said].join(", "));
    tip.replaceChildren(...[at[i], ...said].map((text, n) => {
      const row = document.createElement("div");
      row.className = n === 0 ? "muted" : `legend line${n - 1}`;
      row.textContent = text;
      return row;
    }));
    const share = at.length > 1 ? i / (at.length - 1) : 1;
    for (const part of [cross, tip]) {
      part.hidden = false;
      part.style.left = `${share * 100}%`;
    }
    tip.classList.toggle("before", share > 0.5);
    looked = { chart: scrub.ariaLabel, i };
  };
  const away = () => {
    cross.hidden = tip.hidden = true;
    looked = null;
  };
  scrub.hidden = false;
  scrub.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    look(Math.round(share * (at.length - 1)));
  });
  // A pointer only looks: the keyboard's place is not taken, and what is live goes on.
  scrub.addEventListener("pointerdown", (event) => event.preventDefault());
  scrub.addEventListener("mousedown", (event) => event.preventDefault());
  scrub.addEventListener("pointerleave", () => { if (document.activeElement !== scrub) away(); });
  scrub.addEventListener("input", () => look(Number(scrub.value)));
  scrub.addEventListener("focus", () => look(Number(scrub.value)));
  scrub.addEventListener("blur", away);
  if (looked?.chart === scrub.ariaLabel) look(Math.min(looked.i, at.length - 1));
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
  let waiting = []; // messages of rows; as many as rows are kept
  let held = 0; // of all that came while it paused
  let count = 0;
  const live = () => said(pulse, body ? `live · ${count} events so far` : "live");
  const show = () => {
    // A row alone is no document's child: it is read within a table.
    const page = new DOMParser().parseFromString(`<table><tbody>${waiting.join("")}</tbody></table>`, "text/html");
    waiting = [];
    held = 0;
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
    waiting.push(event.data);
    if (!paused) { show(); return; }
    held += 1;
    if (waiting.length > ROWS_MAX) waiting.shift();
    said(pulse, `paused · ${held} more since`);
  });
  for (const button of [pause, clear]) if (button) button.hidden = false;
  pause?.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) said(pulse, "paused");
    else show();
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

// A slider that leads to a moment: it says which, and its form goes there when a pointer lets it go;
// by the keyboard with Enter, which a form does by itself.
function describe(slider) {
  const { first, moments: known, slider: output } = slider.dataset;
  const [time, balance] = (known?.split("|")[slider.value - first] ?? "").split(" ");
  const at = new Date(time);
  const words = [`${slider.value} of ${slider.max}`];
  if (!Number.isNaN(at.getTime())) words.push(local(at));
  if (balance) words.push(`balance ${grouped(balance)}`);
  document.getElementById(output).textContent = words.join(" · ");
  slider.setAttribute("aria-valuetext", `event ${words.join(", ")}`);
}
let byKey = false;
document.addEventListener("keydown", () => { byKey = true; });
document.addEventListener("pointerdown", () => { byKey = false; });
document.addEventListener("input", (event) => {
  if (event.target.matches("input[data-slider]")) describe(event.target);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-go]") && !byKey) event.target.form.requestSubmit();
});
for (const slider of document.querySelectorAll("input[data-slider]")) describe(slider);

start(document);
themes();
menus();
feeds();
refreshes();
