// Charts over time: lines in an SVG of the available size, redrawn with each sample.

import { number } from '../i18n.js';
import { h, newId, replace, s } from './dom.js';

const [left, right, top, bottom] = [8, 8, 10, 20]; // px around the plot
const lines = 3; // of the grid

/** round returns the next round number: 1, 2 or 5 times a power of ten. */
function round(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find((step) => step * power >= n) * power;
}

/**
 * ticksOf returns the start of a scale and the distance of its lines, so that the lines are at round numbers and all
 * values are in range.
 */
function ticksOf(least, most, smallest) {
  let step = round(Math.max((most - least) / lines, smallest));
  for (;;) {
    const low = Math.floor(least / step) * step;
    if (low + lines * step >= most) return { low, step };
    step = round(step * 1.01);
  }
}

/**
 * chart creates a chart with a title. Its draw takes {series: [{name, kind, values, filled}], slots, ends, from,
 * summary}. values are in the order of time, as many as slots, with null for a missing value. kind is the class that
 * sets the colour. ends are the labels of both ends of the time. from is the start of the scale, 0 by default. summary
 * describes the current state for screen readers.
 */
export function chart(title, { whole = false } = {}) {
  const id = newId('chart');
  const plot = h('div', { class: 'chart-plot' });
  const legend = h('p', { class: 'chart-legend' });
  const readout = h('p', { class: 'chart-readout' });
  const node = h('figure', { class: 'chart' },
    h('figcaption', { id }, h('span', { class: 'chart-title' }, title), readout), plot, legend);
  let last = null;
  const redraw = () => last && draw(last);
  const watch = new ResizeObserver(redraw);
  watch.observe(plot);

  function draw(data) {
    last = data;
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    if (!width || !height) return;
    const scale = scaleOf(data, width, height, whole);
    const svg = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${title}. ${data.summary}` },
      grid(scale, width), marks(data, width, height), data.series.map((one) => curve(one, scale, height)));
    replace(plot, svg);
    readout.textContent = data.summary;
    replace(legend, data.series.length > 1
      ? data.series.map((one) => h('span', { class: `key ${one.kind}` }, one.name)) : null);
  }
  return { node, draw, close: () => watch.disconnect() };
}

/** scaleOf maps samples and values to positions. */
function scaleOf({ series, slots, from = 0 }, width, height, whole) {
  const values = series.flatMap((one) => one.values).filter((v) => v !== null);
  const { low, step } = ticksOf(Math.min(from, ...values), Math.max(from, ...values), whole ? 1 : 0.5);
  return {
    low, step,
    x: (i) => left + ((width - left - right) * i) / Math.max(slots - 1, 1),
    y: (v) => height - bottom - ((height - top - bottom) * (v - low)) / (lines * step),
  };
}

function grid({ low, step, y }, width) {
  return Array.from({ length: lines + 1 }, (_, i) => {
    const value = low + step * i;
    const at = Math.round(y(value)) + 0.5;
    return [
      s('line', { class: 'grid', x1: left, x2: width - right, y1: at, y2: at }),
      i > 0 && s('text', { class: 'tick', x: left, y: at - 3 }, number(value)),
    ];
  });
}

/** marks draws the labels below the plot, at its left and right ends. */
const marks = ({ ends }, width, height) => [
  s('text', { class: 'tick', x: left, y: height - 5 }, ends[0]),
  s('text', { class: 'tick end', x: width - right, y: height - 5 }, ends[1]),
];

/** curve draws one line, with a shaded area below it if it is the only one. */
function curve({ kind, values, filled }, { x, y, low }, height) {
  const points = values.map((v, i) => (v === null ? null : [x(i), y(v)])).filter(Boolean);
  if (points.length === 0) return null;
  const line = points.map(([px, py], i) => `${i ? 'L' : 'M'}${px.toFixed(1)} ${py.toFixed(1)}`).join('');
  const [end] = points.slice(-1);
  return s('g', { class: `curve ${kind}` },
    filled &&
      s('path',
        { class: 'field-below', d: `${line}L${end[0].toFixed(1)} ${y(low)}L${points[0][0].toFixed(1)} ${y(low)}Z` }),
    s('path', { class: 'line', d: line }),
    s('circle', { class: 'now', cx: end[0], cy: end[1], r: 3 }));
}
