// The benchmark's ramp of prompts as a plot: what the table of this page says, over the prompts' lengths.
"use strict";

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
      field: element.dataset.chart,
      plot: chartOf(element, { labels: [element.dataset.label], x: compact, points: true }),
    }));
  }
  for (const { field, plot } of charts) plot.setData([rows.map((row) => row.amount), rows.map((row) => row[field])]);
}

document.body.addEventListener("htmx:afterSwap", draw);
draw();
