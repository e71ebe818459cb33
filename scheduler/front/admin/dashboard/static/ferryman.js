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
async function call(order, body, more = {}) {
  const [method, path] = order.split(" ");
  const headers = { "x-ferryman-csrf": csrf, ...more };
  if (body !== undefined && !headers["content-type"]) headers["content-type"] = "application/json";
  const sent = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: sent });
  } catch {
    throw new Error("No connection: nothing was changed, as far as this page knows.");
  }
  const text = await answer.text();
  let json = {};
  try { json = JSON.parse(text); } catch { json = {}; }
  if (answer.ok) return json;
  const error = json.error?.message ?? json.error ?? `${answer.status} ${answer.statusText}`;
  throw Object.assign(new Error(typeof error === "string" ? error : JSON.stringify(error)), {
    wrong: json.fields ?? (json.error?.field ? { [json.error.field]: json.error.message } : {}),
    problems: json.error?.problems ?? [],
    more: json.error?.more ?? 0,
  });
}

// What is wrong stands at the field, and what was typed stays.
function mark(form, wrong) {
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    document.getElementById(`${field.id}-wrong`)?.remove();
    field.removeAttribute("aria-describedby");
  }
  let first;
  for (const [name, message] of Object.entries(wrong)) {
    const field = [...form.elements].find((one) => one.name === name || one.dataset.field === name);
    if (!field) continue;
    const place = Object.assign(document.createElement("span"), { className: "error", id: `${field.id}-wrong` });
    place.textContent = message;
    field.after(place);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", place.id);
    first ??= field;
  }
  first?.focus();
  return Boolean(first);
}

// Asks in a dialog before something is changed; `show` is where the difference is read.
async function agreed(question, verb, shown) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = question;
  document.getElementById("ask-yes").textContent = verb;
  const place = document.getElementById("ask-shown");
  place.hidden = !shown;
  place.replaceChildren(...(shown ?? []));
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return dialog.returnValue === "yes";
}

function fields(form) {
  const body = {};
  let key = "";
  for (const field of form.elements) {
    if (!field.name || (field.type === "checkbox" && !field.checked)) continue;
    const [name, part] = field.name.split(":");
    if (part === "key") { key = field.value; continue; }
    if (part === "value") { body[name] = { [key]: field.value }; continue; }
    if (name.endsWith("[]")) { if (field.value !== "") body[name.slice(0, -2)] = [field.value]; continue; }
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
    if (button.form && mark(button.form, error.wrong ?? {})) { if (place) place.textContent = ""; said.textContent = ""; }
    else if (place) { place.textContent = error.message; said.textContent = ""; } else { said.textContent = error.message; }
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-call], button[data-chosen]");
  if (!button) return;
  const place = button.closest("form")?.querySelector("p.error");
  if (button.dataset.call) {
    doing(button, async () => {
      if (button.dataset.ask) {
        const shown = button.dataset.show ? changes(await call(`GET ${button.dataset.show}`)) : undefined;
        if (!await agreed(button.dataset.ask, button.textContent.replace(" …", ""), shown)) return;
      }
      await call(button.dataset.call, button.dataset.body ? JSON.parse(button.dataset.body) : undefined);
      if (button.dataset.then) { window.location.assign(button.dataset.then); return; }
      tell(button.dataset.said ?? "Done.", place);
      if (button.hasAttribute("data-again")) again(button.dataset.said ?? "Done.");
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
    again(button.dataset.said);
  }, place);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.call) {
    if (form.hasAttribute("data-pick")) event.preventDefault();
    return;
  }
  event.preventDefault();
  const place = form.querySelector("p.error");
  doing(event.submitter ?? form.querySelector("button"), async () => {
    const answer = await call(form.dataset.call, fields(form));
    mark(form, {});
    tell(form.dataset.said ?? "Done.", place);
    form.dispatchEvent(new CustomEvent("answered", { detail: answer }));
    if (form.hasAttribute("data-again")) again(form.dataset.said ?? "Done.");
    else if (!form.hasAttribute("data-stays")) form.reset();
  }, place);
});

// Loads the room anew, and says there what was done.
function again(what) {
  try { window.sessionStorage.setItem("said", what); } catch { said.textContent = what; }
  window.location.reload();
}

function saidBefore() {
  try {
    said.textContent = window.sessionStorage.getItem("said") ?? "";
    window.sessionStorage.removeItem("said");
  } catch { said.textContent = ""; }
}

times(document);
saidBefore();
const main = document.querySelector("main[data-live]");
if (main) follow(main);
