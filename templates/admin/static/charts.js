// Charts in the pages' colours, drawn with uPlot: `chartOf(element, {labels, x, y, least, points})`.
"use strict";

const STEPS = ["#4f9d95", "#8a7fd1", "#d08a3c"];
const LANGUAGE = document.documentElement.lang;
const compact = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 2, notation: "compact" }).format;
const HEIGHT = 200;
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];  // between two labels of an axis of time

// `labels` name the lines; `x` and `y` write an axis's number, `x` knowing the step between two; the y axis goes up to `least` at the least.
function chartOf(element, { labels, x, y = compact, least = 0, points = false, isTime = false }) {
  const ink = getComputedStyle(document.body).getPropertyValue("color");
  const axis = { stroke: ink, grid: { stroke: "rgba(128,140,136,0.2)", width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const plot = new uPlot({
    width: element.clientWidth, height: HEIGHT, legend: { live: false }, cursor: { show: false },
    scales: { x: { time: isTime }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, least) || 1] } },
    axes: [{ ...axis, ...(isTime && { incrs: SECONDS }), size: 28, space: 70, values: (_, values, _axis, _space, step) => values.map((value) => x(value, step)) }, { ...axis, size: 58, values: (_, values) => values.map(y) }],
    series: [{}, ...labels.map((label, index) => ({ label, stroke: STEPS[index], width: 2, points: { show: points, size: 7, fill: STEPS[index] } }))],
  }, [[], ...labels.map(() => [])], element);
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT })).observe(element);
  return plot;
}
