// The chat page: one conversation, kept in the page alone, streamed from /admin/api/chat.
"use strict";

const talk = document.getElementById("talk");
const form = document.getElementById("say");
if (form) {
  const box = document.getElementById("words");
  const send = document.getElementById("send");
  let messages = [];
  let stopper = null;

  const add = (role, name) => {
    const article = document.createElement("article");
    article.className = role;
    const heading = document.createElement("h2");
    heading.textContent = name;
    const text = document.createElement("div");
    article.append(heading, text);
    talk.append(article);
    return text;
  };

  // What the model thinks stands above its answer, folded.
  const think = (out) => {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = form.dataset.thought;
    const thought = document.createElement("p");
    details.append(summary, thought);
    out.before(details);
    return thought;
  };

  // A question without an answer was never asked: the next one would follow on it.
  const takeBack = (out) => {
    const question = messages.pop();
    out.parentElement.previousElementSibling.remove();
    out.parentElement.remove();
    box.value ||= question.content;
  };

  const read = async (response, take) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.replace(/^data: /, "");
        if (!data.startsWith("{")) continue;
        const record = JSON.parse(data);
        if (record.error) throw new Error(record.error.message);
        take(record.choices?.[0]?.delta || {});
      }
    }
  };

  const answer = async () => {
    const model = document.getElementById("model").value;
    const out = add("assistant", model);
    let text = "";
    let thought = null;
    stopper = new AbortController();
    send.textContent = form.dataset.stop;
    try {
      const response = await fetch("/admin/api/chat", {
        method: "POST", signal: stopper.signal, headers: { "content-type": "application/json", "x-csrf-token": csrf },
        body: JSON.stringify({ model, messages, stream: true }),
      });
      if (!response.ok) throw new Error((await response.json()).error.message);
      await read(response, (delta) => {
        if (delta.reasoning_content) {
          thought ??= think(out);
          thought.textContent += delta.reasoning_content;
        }
        text += delta.content || "";
        out.textContent = text;
        talk.scrollTop = talk.scrollHeight;
      });
    } catch (error) {
      if (error.name !== "AbortError") tell(error.message, true);
    }
    if (out.isConnected) text ? messages.push({ role: "assistant", content: text }) : takeBack(out);
    stopper = null;
    send.textContent = form.dataset.send;
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (stopper) { stopper.abort(); return; }
    const content = box.value.trim();
    if (!content) return;
    messages.push({ role: "user", content });
    add("user", form.dataset.you).textContent = content;
    box.value = "";
    answer();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  document.getElementById("anew").addEventListener("click", () => { stopper?.abort(); messages = []; talk.replaceChildren(); box.focus(); });
}
