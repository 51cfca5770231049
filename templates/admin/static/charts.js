// The status page's charts: the samples of /admin/api/status, drawn with uPlot.
"use strict";

const FIELDS = { rates: ["prefill_rate", "cached_rate", "decode_rate"], requests: ["num_running", "num_waiting"], memory: ["memory_bytes"] };
const STEPS = ["#4f9d95", "#8a7fd1", "#d08a3c"];
const language = document.documentElement.lang;
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 1, notation: "compact" });
const bytes = (value) => whole.format(value / 1e9) + " GB";

function made(element) {
  const style = getComputedStyle(document.body);
  const ink = style.getPropertyValue("color");
  const axis = { stroke: ink, grid: { stroke: "rgba(128,140,136,0.2)", width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const show = element.dataset.chart === "memory" ? bytes : (value) => whole.format(value);
  const labels = JSON.parse(element.dataset.labels);
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hour12: false });
  return new uPlot({
    width: element.clientWidth, height: 200, legend: { live: false }, cursor: { show: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, element.dataset.chart === "memory" ? 1e9 : 1)] } },
    axes: [{ ...axis, values: (_, times) => times.map((time) => clock.format(new Date(time * 1000))) },
      { ...axis, size: 58, values: (_, values) => values.map(show) }],
    series: [{}, ...labels.map((label, index) => ({ label, stroke: STEPS[index], width: 2, points: { show: false } }))],
  }, [[], ...labels.map(() => [])], element);
}

const charts = [...document.querySelectorAll("[data-chart]")].map((element) => ({ element, plot: made(element) }));

async function draw() {
  const response = await fetch("/admin/api/status");
  if (!response.ok) return;
  const { history } = await response.json();
  for (const { element, plot } of charts) {
    plot.setData([history.map((one) => one.time), ...FIELDS[element.dataset.chart].map((name) => history.map((one) => one[name]))]);
  }
}

addEventListener("resize", () => charts.forEach(({ element, plot }) => plot.setSize({ width: element.clientWidth, height: 200 })));
draw();
setInterval(draw, 3000);
