// What the pages do beside showing themselves: each change is one call of the admin API, named in data attributes.
"use strict";

const csrf = document.querySelector('meta[name="csrf"]').content;
const words = document.body.dataset;

async function api(call, body) {
  const [method, path] = call.split(" ");
  const headers = { "x-csrf-token": csrf };
  if (body !== undefined) headers["content-type"] = "application/json";
  else if (method === "POST") { headers["content-type"] = "application/json"; body = {}; }
  let response;
  try {
    response = await fetch("/admin/api/" + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error(words.unreachable);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    throw new Error(told?.error?.message || words.failed);
  }
  return response;
}

// A refusal is in English, whatever the page's language: the page's own words come first.
function tell(text, isBad) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  if (isBad && text !== words.unreachable && text !== words.failed) {
    const refusal = document.createElement("span");
    refusal.lang = "en";
    refusal.textContent = text;
    notice.replaceChildren(words.failed, " ", refusal);
  }
  notice.className = isBad ? "bad" : "";
  notice.hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { notice.hidden = true; }, isBad ? 9000 : 3000);
}

async function run(element, call, body) {
  const button = element.matches("button") ? element : element.querySelector("button:not([type=button])");
  if (button) button.disabled = true;
  try {
    await api(call, body);
    if (element.dataset.then) { location.href = element.dataset.then; return true; }
    if (element.dataset.saved) tell(element.dataset.saved);
    document.body.dispatchEvent(new Event("changed"));
    return true;
  } catch (error) {
    tell(error.message, true);
    return false;
  } finally {
    if (button) button.disabled = false;
  }
}

// A field's value: of kind json it is what is written, text where that is no JSON; an empty one is null.
function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  const text = field.value.trim();
  if (text === "") return null;
  if (field.dataset.kind === "json" || field.dataset.kind === "setting") {
    try { return JSON.parse(text); } catch { return text; }
  }
  return text;
}

function changesOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    const isUnchanged = field.dataset.kind && field.dataset.was === JSON.stringify(valueOf(field));
    if (!isUnchanged && (field.dataset.kind || valueOf(field) !== null)) body[field.name] = valueOf(field);
  }
  return body;
}

function remember(form) {
  for (const field of form.elements) if (field.dataset.kind) field.dataset.was = JSON.stringify(valueOf(field));
}

// Without a secure origin there is no clipboard to write to; then the text is selected and copied as by hand.
async function copy(button) {
  const source = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) return;
  }
  const word = button.textContent;
  if (word === button.dataset.copied) return;
  button.textContent = button.dataset.copied;
  setTimeout(() => { button.textContent = word; }, 2000);
}

document.querySelectorAll("form[data-api]").forEach(remember);
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.api) return;
  event.preventDefault();
  if (await run(form, form.dataset.api, changesOf(form))) remember(form);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-api], button[data-copy]");
  if (!button) return;
  if (button.dataset.copy) { copy(button); return; }
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  const body = button.dataset.body && JSON.parse(button.dataset.body);
  const chosen = document.getElementById(button.dataset.with);
  if (chosen) body[chosen.name] = chosen.value;
  run(button, button.dataset.api, body);
});
document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.dataset.cookie) {
    document.cookie = `${field.dataset.cookie}=${field.value}; Path=/admin; SameSite=Strict; Max-Age=31536000`;
    location.reload();
  }
  if (field.dataset.change) run(field, field.dataset.change, { [field.dataset.name]: valueOf(field) });
});

// Where a part renews itself, whoever is at one of its buttons stays there, and a log that is followed stays at its end.
let held = "";
document.addEventListener("htmx:beforeSwap", () => { held = document.activeElement?.id || ""; });
document.addEventListener("htmx:afterSwap", (event) => {
  if (held && document.activeElement === document.body) document.getElementById(held)?.focus();
  if (event.target.id === "lines" && document.getElementById("follow").checked) event.target.scrollTop = event.target.scrollHeight;
});
const lines = document.getElementById("lines");
if (lines) lines.scrollTop = lines.scrollHeight;
