// The benchmark's ramp of prompts as a plot: what the table of this page says, over the prompts' lengths.
"use strict";

const FIELDS = { rates: ["prefill_rate", "decode_rate"], waits: ["first_token_seconds"] };
const ramp = document.getElementById("ramp");
let charts = [];
let drawn = "";

function rowsOf(part) {
  const told = part.querySelector("[data-ramp]")?.dataset.ramp ?? "[]";
  return told === drawn ? null : JSON.parse((drawn = told));
}

function draw() {
  const rows = rowsOf(document.getElementById("checks"));
  if (!rows) return;
  ramp.hidden = rows.length < 2;
  if (ramp.hidden) return;
  if (!charts.length) {
    charts = [...ramp.querySelectorAll("[data-chart]")].map((element) => ({
      fields: FIELDS[element.dataset.chart],
      plot: chartOf(element, { labels: JSON.parse(element.dataset.labels), x: compact, points: true }),
    }));
  }
  for (const { fields, plot } of charts) {
    plot.setData([rows.map((row) => row.amount), ...fields.map((name) => rows.map((row) => row[name]))]);
  }
}

document.body.addEventListener("htmx:afterSwap", draw);
draw();
