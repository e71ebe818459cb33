// What an open page does: follow its room, show times in the viewer's zone, send what a button or form asks of /v1.
"use strict";

const csrf = document.querySelector("meta[name=csrf]").content;
const said = document.getElementById("said");

function times(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = time.dataset.form === "day"
      ? at.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" })
      : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
    time.title = time.dateTime;
  }
}

// ---------------------------------------------------------------- following a room
function follow(main) {
  const connection = document.getElementById("connection");
  const source = new EventSource(`/live?room=${encodeURIComponent(main.dataset.live)}`);
  source.addEventListener("open", () => { connection.hidden = true; });
  source.addEventListener("error", () => { connection.hidden = false; });
  source.addEventListener("room", (event) => { connection.hidden = true; draw(main, event.data); });
  window.addEventListener("pagehide", () => source.close());
}

function draw(main, html) {
  const fresh = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html").querySelector("main");
  // A form that somebody fills in stays as it is.
  for (const kept of main.querySelectorAll("[data-keep]")) {
    const place = kept.id && fresh.querySelector(`#${CSS.escape(kept.id)}`);
    if (place) place.replaceWith(kept);
  }
  const focused = document.activeElement;
  const again = focused && main.contains(focused) && !focused.closest("[data-keep]") && focused.dataset.call;
  main.replaceChildren(...fresh.childNodes);
  times(main);
  if (again) main.querySelector(`[data-call="${CSS.escape(again)}"]`)?.focus();
}

// ---------------------------------------------------------------- asking for a change
async function call(order, body) {
  const [method, path] = order.split(" ");
  const headers = { "x-ferryman-csrf": csrf };
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  let json = {};
  try { json = JSON.parse(text); } catch { json = {}; }
  if (answer.ok) return json;
  const error = json.error?.message ?? json.error ?? `${answer.status} ${answer.statusText}`;
  throw new Error(typeof error === "string" ? error : JSON.stringify(error));
}

function fields(form) {
  const body = {};
  let key = "";
  for (const field of form.elements) {
    if (!field.name || (field.type === "checkbox" && !field.checked)) continue;
    const [name, part] = field.name.split(":");
    if (part === "key") { key = field.value; continue; }
    if (part === "value") { body[name] = { [key]: field.value }; continue; }
    if (field.value !== "") body[name] = field.type === "checkbox" ? true : field.value;
  }
  return body;
}

function tell(text, place) {
  said.textContent = text;
  if (place) place.textContent = "";
}

async function doing(button, work, place) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    if (place) { place.textContent = error.message; said.textContent = ""; } else { said.textContent = error.message; }
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-call], button[data-chosen]");
  if (!button) return;
  if (button.dataset.ask && !window.confirm(button.dataset.ask)) return;
  const place = button.closest("form")?.querySelector(".error");
  if (button.dataset.call) {
    doing(button, async () => {
      await call(button.dataset.call);
      if (button.dataset.then) window.location.assign(button.dataset.then);
      else tell(button.dataset.said ?? "Done.", place);
    }, place);
    return;
  }
  doing(button, async () => {
    const form = button.closest("form");
    const byBucket = new Map();
    for (const box of form.querySelectorAll("input[name=pick]:checked")) {
      byBucket.set(box.dataset.bucket, [...(byBucket.get(box.dataset.bucket) ?? []), box.value]);
    }
    if (byBucket.size === 0) throw new Error("Choose at least one key.");
    const more = {};
    if (button.dataset.with) {
      const field = form.querySelector(`[name=${button.dataset.with}]`);
      if (!field.value.trim()) { field.focus(); throw new Error("Say why: the report will carry it."); }
      more[button.dataset.with] = field.value.trim();
    }
    for (const [bucket, keys] of byBucket) await call(button.dataset.chosen, { bucket, keys, ...more });
    tell(button.dataset.said, place);
    window.setTimeout(() => window.location.reload(), 800);
  }, place);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.call) {
    if (form.hasAttribute("data-pick")) event.preventDefault();
    return;
  }
  event.preventDefault();
  const place = form.querySelector(".error");
  doing(event.submitter ?? form.querySelector("button"), async () => {
    await call(form.dataset.call, fields(form));
    tell(form.dataset.said ?? "Done.", place);
    form.reset();
  }, place);
});

times(document);
const main = document.querySelector("main[data-live]");
if (main) follow(main);
