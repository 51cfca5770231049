// The status page's charts: the samples of /admin/api/status.
"use strict";

const FIELDS = { rates: ["prefill_rate", "cached_rate", "decode_rate"], requests: ["num_running", "num_waiting"], memory: ["memory_bytes"] };
const MINUTES = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const minutes = new Intl.DateTimeFormat(LANGUAGE, MINUTES);
const seconds = new Intl.DateTimeFormat(LANGUAGE, { ...MINUTES, second: "2-digit" });
const SCALES = { rates: { least: 1 }, requests: { least: 4 }, memory: { least: 1e9 } };
const x = (time, step) => (step < 60 ? seconds : minutes).format(new Date(time * 1000));

const charts = [...document.querySelectorAll("[data-chart]")].map((element) => {
  const labels = JSON.parse(element.dataset.labels);
  const unit = element.dataset.unit;
  const y = unit ? (value) => `${compact(value / 1e9)} ${unit}` : compact;
  return { fields: FIELDS[element.dataset.chart], plot: chartOf(element, { labels, x, y, isTime: true, ...SCALES[element.dataset.chart] }) };
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
