// What single rooms do besides: differences of rules, a document that is checked and put in force.
"use strict";

// Signs that cannot be seen, or that turn the direction of what follows, are shown as their numbers.
function visible(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);
}

function made(tag, className, text) {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text !== undefined) one.textContent = text;
  return one;
}

// A difference of `/v1/rules/…` as lines.
function changes(found) {
  const lines = [];
  const words = [["new", found.added], ["gone", found.removed], ["changed", found.changed]];
  const named = words.filter(([, names]) => names.length).map(([word, names]) => `${word}: ${names.map(visible).join(", ")}`);
  if (found.reordered) named.push("asked in another order");
  lines.push(made("p", "named", named.join(" · ") || "The rules say the same."));
  const kinds = { "+": "in", "-": "out", "@": "gap", " ": "same" };
  const signs = { "+": "+", "-": "\u2212", "@": "\u2026", " ": " " };
  for (const line of found.lines) {
    const row = made("p", kinds[line.sign]);
    row.append(made("span", "", signs[line.sign]), visible(line.text));
    lines.push(row);
  }
  return lines;
}

// ---------------------------------------------------------------- rules: check, and put in force
const rulesForm = document.getElementById("rules-form");

function place(problem) {
  return `${problem.line ? `line ${problem.line}: ` : ""}${problem.path ? `${problem.path}: ` : ""}${problem.message}`;
}

// Selects a line of the document, where the problem is.
function toLine(area, number) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
  area.scrollTop = Math.max(0, (number - 4) * (area.scrollHeight / Math.max(1, lines.length)));
}

function problems(area, error) {
  const wrong = document.getElementById("document-wrong");
  const list = made("ul");
  for (const problem of error.problems ?? []) {
    const row = made("li");
    const text = visible(place(problem));
    if (problem.line) {
      const button = made("button", "link", text);
      button.type = "button";
      button.addEventListener("click", () => toLine(area, problem.line));
      row.append(button);
    } else row.textContent = text;
    list.append(row);
  }
  if (error.more) list.append(made("li", "", `and ${error.more} more`));
  wrong.replaceChildren(...(list.children.length ? [list] : error.message ? [made("p", "", visible(error.message))] : []));
  if (error.message) { area.setAttribute("aria-invalid", "true"); area.focus(); } else area.removeAttribute("aria-invalid");
}

async function checked(area, form) {
  const said = document.getElementById("document-said");
  said.replaceChildren();
  try {
    const answer = await call(`PUT ${form.dataset.rules}?dry_run=true`, area.value, { "content-type": "text/plain" });
    problems(area, {});
    return answer;
  } catch (error) {
    problems(area, error);
    return undefined;
  }
}

rulesForm?.addEventListener("submit", (event) => {
  event.preventDefault();
  const area = document.getElementById("document");
  const said = document.getElementById("document-said");
  const button = event.submitter ?? rulesForm.querySelector("[name=check]");
  doing(button, async () => {
    const answer = await checked(area, rulesForm);
    if (!answer) return;
    const warnings = answer.warnings.map((one) => made("p", "warning", `Warning: ${visible(place(one))}`));
    const difference = made("div", "difference");
    difference.tabIndex = 0;
    difference.setAttribute("role", "group");
    difference.setAttribute("aria-label", "What would change");
    difference.append(...changes(answer.difference));
    said.replaceChildren(made("p", "well", `It can be read: ${answer.rules.length} ${answer.rules.length === 1 ? "rule" : "rules"}. Against what is in force:`), ...warnings, difference);
    if (button.name !== "apply") return;
    const shown = [...warnings.map((one) => one.cloneNode(true)), ...changes(answer.difference)];
    if (!await agreed(`Put ${answer.rules.length} ${answer.rules.length === 1 ? "rule" : "rules"} in force for ${answer.bucket}?`, "Put in force", shown)) return;
    try {
      const done = await call(`PUT ${rulesForm.dataset.rules}`, area.value, { "content-type": "text/plain", "if-match": `"${answer.version}"` });
      again(done.changed ? `Version ${done.version} is in force.` : "These rules were in force already.");
    } catch (error) {
      problems(area, error);
    }
  });
});

// ---------------------------------------------------------------- origins: what a probe showed
const probeForm = document.getElementById("probe-form");

probeForm?.addEventListener("answered", (event) => {
  const found = event.detail;
  const milliseconds = found.first_byte_s === null ? "" : `${Math.round(found.first_byte_s * 1000)} ms`;
  const rows = [
    ["Reached", found.reachable ? "yes" : "no"], ["Status", found.status], ["Lands at", found.hops ? `${found.landed}, after ${found.hops} redirects` : ""],
    ["Speaks", found.reachable ? [found.http_version, found.tls, found.server].filter(Boolean).join(", ") : ""], ["Type", found.content_type],
    ["Length", found.length === null ? found.framing : `${found.length.toLocaleString()} bytes`], ["First byte", milliseconds], ["Ranges", found.ranges],
    ["Validator", found.validator], ["Digests", found.digests.join(", ")], ["HEAD", found.head === null ? "" : found.head ? "as GET" : "differs from GET"],
    ["A key that nobody has", found.missing_status], ["Take note", found.problems.join(" ")],
  ];
  const shown = rows.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [made("dt", "", name), made("dd", "", visible(String(value)))]);
  document.getElementById("probe-said").replaceChildren(...shown);
});
