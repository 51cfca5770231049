// The status page's charts: the samples of /admin/api/status.
"use strict";

const FIELDS = { rates: ["prefill_rate", "cached_rate", "decode_rate"], requests: ["num_running", "num_waiting"], memory: ["memory_bytes"] };
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", hour12: false });
const SCALES = { rates: { least: 1 }, requests: { least: 4 }, memory: { least: 1e9, y: (value) => compact(value / 1e9) + " GB" } };
const x = (time) => clock.format(new Date(time * 1000));

const charts = [...document.querySelectorAll("[data-chart]")].map((element) => {
  const labels = JSON.parse(element.dataset.labels);
  return { fields: FIELDS[element.dataset.chart], plot: chartOf(element, { labels, x, isTime: true, ...SCALES[element.dataset.chart] }) };
});

async function draw() {
  const response = await fetch("/admin/api/status");
  if (!response.ok) return;
  const { history } = await response.json();
  for (const { fields, plot } of charts) {
    plot.setData([history.map((one) => one.time), ...fields.map((name) => history.map((one) => one[name]))]);
  }
}

draw();
setInterval(draw, 3000);
