// The overview: the current cluster and its last minutes.

import { getJSON } from '../api.js';
import { number, t } from '../i18n.js';
import { message, noticesOf } from '../messages.js';
import { href } from '../router.js';
import { rateAt, status } from '../status.js';
import { chart } from '../ui/chart.js';
import { h, replace } from '../ui/dom.js';
import { move } from '../ui/motion.js';
import { button, explain, head, panel, problemBox, spinner, stateBadge, stat, table } from '../ui/parts.js';
import { drawPicture, hostOf, layoutOf } from '../ui/picture.js';
import { askForToken } from '../ui/tokens.js';

const windows = [60, 120, 300]; // samples in a chart: the smallest window with all samples is used
const lastBlocks = 12; // in the strip

export function overview({ signal }) {
  const body = h('div', {});
  const live = liveParts(signal);
  let told = ''; // the problem that is shown; drawn only once, so that its buttons keep the focus
  const show = () => {
    const { cluster, problem } = status;
    if (cluster) {
      if (body.firstChild !== live.node) replace(body, live.node);
      live.show(cluster);
    } else if (problem && problem.name !== told) {
      told = problem.name;
      replace(body, problem.status === 401 ? welcome(problem) : problemBox(problem));
    }
  };
  status.addEventListener('change', show, { signal });
  replace(body, spinner());
  show();
  return { title: t('nav.overview'), node: [head(t('nav.overview')), body] };
}

/** welcome is shown until a token is set. */
const welcome = (problem) =>
  h('div', { class: 'welcome panel' },
    h('h2', {}, t('welcome.title')),
    h('p', {}, problem.name === 'unauthorized' ? explain(problem) : t('welcome.text')),
    h('ul', {}, ['dev', 'admin', 'open'].map((who) => h('li', {}, t(`welcome.${who}`)))),
    h('div', { class: 'form-do' }, button(t('token.enter'), () => askForToken(), { kind: 'primary', glyph: 'key' }),
      h('a', { class: 'button', href: href('projects') }, t('projects.create'))));

/** liveParts returns the parts that change with every status. */
function liveParts(signal) {
  const picture = pictureParts(signal);
  const stats = h('dl', { class: 'stats' });
  const notices = h('div', { class: 'notices' });
  const strip = blockStrip(signal);
  const rate = chart(t('overview.rate'));
  const heights = chart(t('overview.heights'), { whole: true });
  const nodes = h('div', {});
  let listed = ''; // the content of the tables
  signal.addEventListener('abort', () => [rate, heights].forEach((c) => c.close()));
  const node = h('div', { class: 'stack' },
    notices, stats,
    h('section', { class: 'panel picture-panel', 'aria-label': t('overview.picture') }, picture.node),
    h('section', { class: 'panel', 'aria-label': t('overview.last') }, strip.node),
    h('div', { class: 'pair' }, h('div', { class: 'panel' }, rate.node), h('div', { class: 'panel' }, heights.node)),
    h('details', { class: 'panel' }, h('summary', {}, t('overview.nodes')), nodes));
  return {
    node,
    show(cluster) {
      showNotices(notices, cluster);
      replace(stats, figures(cluster));
      picture.show(cluster);
      strip.show(cluster);
      drawRate(rate);
      drawHeights(heights, cluster);
      const now = JSON.stringify([cluster.masters, cluster.storages, cluster.miners, cluster.leader]);
      if (now !== listed) replace(nodes, nodeTables(cluster));
      listed = now;
    },
  };
}

/** showNotices shows notices for the operator: those of the masters, and the state of this page's connection. */
function showNotices(place, cluster) {
  const told = noticesOf(cluster);
  if (status.problem) told.unshift(explain(status.problem));
  const urls = cluster.masters.map((m) => m.url).filter(Boolean);
  if (!urls.some((url) => new URL(url).origin === location.origin)) told.push(t('connection.stranger',
    { master: urls[0] ?? '' }));
  if (place.dataset.told === told.join('\n')) return;
  place.dataset.told = told.join('\n');
  replace(place, told.map((text) => h('p', { class: 'notice' }, text)));
}

const figures = (c) => [
  stat(t('overview.records'), c.records ?? c.head.size - c.head.height),
  stat(t('overview.height'), c.head.height, t('overview.stored', { stored: c.stored })),
  stat(t('overview.perSecond'), meanRate()),
  stat(t('overview.copies'), c.replicas,
    t('overview.valid', { n: c.storages.filter((one) => one.state === 'valid' && one.live).length,
      all: c.storages.length })),
  c.checkpoint && stat(t('overview.signed'), c.checkpoint.published_size, c.witnesses
    ? t('overview.witnesses', { n: c.witnesses.filter((one) => one.state === 'ok').length,
      all: c.witnesses.length }) : t('overview.leaves')),
  stat(t('overview.leader'),
    h('span', { class: 'mono' }, hostOf(c.masters.find((m) => m.id === c.leader)?.url, c.leader
      ? c.leader.slice(0, 8) : '—')), t('overview.term', { term: c.term })),
];

const meanOver = 5; // samples

function meanRate() {
  const rates = status.samples.map((_, i) => rateAt(i)).slice(1).slice(-meanOver);
  return rates.length ? rates.reduce((a, b) => a + b, 0) / rates.length : 0;
}

function pictureParts(signal) {
  const node = h('div', { class: 'picture-place' });
  let [before, drawn] = [null, ''];
  const draw = (cluster, anew) => {
    const layout = layoutOf(node.clientWidth, cluster);
    const now = JSON.stringify([layout.width, document.documentElement.lang, { ...cluster, keys: 0 }]);
    if (now === drawn && !anew) return;
    drawn = now;
    const svg = drawPicture(cluster, layout, inWords(cluster));
    for (const moving of node.querySelectorAll('.moving')) svg.append(moving);
    replace(node, svg);
    move(svg, before, cluster, layout);
    before = cluster;
  };
  const watch = new ResizeObserver(() => status.cluster && draw(status.cluster));
  watch.observe(node);
  signal.addEventListener('abort', () => watch.disconnect());
  return { node, show: draw };
}

/** inWords returns a description of the picture. */
function inWords(c) {
  const leader = c.masters.find((m) => m.id === c.leader);
  return [
    t('words.masters', { n: c.masters.length, leader: leader ? hostOf(leader.url, leader.id) : t('words.nobody'),
      term: c.term }),
    t('words.buffer', { records: c.buffer.records, blocks: c.pending.blocks }),
    ...c.storages.map((one) =>
      t('words.storage', { node: hostOf(one.url, one.id), state: t(`state.${one.live ? one.state : 'gone'}`),
        height: one.height })),
    t('words.miners', { live: c.miners.filter((m) => m.live).length, all: c.miners.length }),
  ].join(' ');
}

/** blockStrip shows the last blocks of the chain, with the newest on the right. */
function blockStrip(signal) {
  const list = h('ol', { class: 'strip' });
  let [height, asking] = [-1, false];
  const show = async (cluster) => {
    if (cluster.head.height === height || asking) return;
    asking = true;
    try {
      const { blocks } = await getJSON(`/v1/blocks?limit=${lastBlocks}`, { signal });
      const first = height < 0;
      replace(list, blocks.toReversed().map((b) => stripBlock(b, !first && b.block >= height)));
      height = cluster.head.height;
      list.scrollLeft = list.scrollWidth;
    } catch {
      // The next status repeats the request.
    }
    asking = false;
  };
  const none = h('p', { class: 'faint' }, t('chain.none'));
  return {
    node: [h('h2', {}, t('overview.last')), list, none],
    show: (cluster) => {
      none.hidden = cluster.head.height > 0;
      show(cluster);
    },
  };
}

const stripBlock = (b, fresh) =>
  h('li', { class: fresh ? 'fresh' : null },
    h('a', { href: href(`block/${b.block}`), title: b.hash },
      h('span', { class: 'strip-number' }, number(b.block)),
        h('span', { class: 'strip-count' }, t('records', { n: b.count })),
      h('code', {}, b.hash.slice(0, 8))));

const slotsNow = () => windows.find((n) => status.samples.length <= n) ?? windows.at(-1);

/** lastSamples returns the samples of a chart, with null for the time before the page was opened. */
const lastSamples = (value) => {
  const values = status.samples.map(value);
  return [...Array(slotsNow() - values.length).fill(null), ...values];
};

/** timeline returns the common options of the charts: the number of samples, and the labels of both ends. */
const timeline = () => ({ slots: slotsNow(), ends: [t('chart.ago', { minutes: slotsNow() / 60 }), t('chart.now')] });

function drawRate(place) {
  const values = lastSamples((_, i) => rateAt(i));
  place.draw({
    series: [{ name: t('overview.perSecond'), kind: 'first', values, filled: true }], ...timeline(),
    summary: t('overview.rate.now', { now: meanRate(), most: Math.max(0, ...values.filter((v) => v !== null)) }),
  });
}

function drawHeights(place, cluster) {
  const from = Math.min(...status.samples.map((one) => Math.min(one.stored, ...Object.values(one.storages))));
  place.draw({
    series: [
      ...cluster.storages.map((node, i) =>
        ({ name: hostOf(node.url, node.id), kind: `node-${i % 6}`,
          values: lastSamples((one) => one.storages[node.id] ?? null) })),
      { name: t('overview.mined'), kind: 'first', values: lastSamples((one) => one.height) },
    ],
    ...timeline(), from, summary: t('overview.heights.now', { height: cluster.head.height, stored: cluster.stored }),
  });
}

/** nodeTables returns tables with the content of the picture. */
const nodeTables = (c) => [
  table(t('picture.masters'), [t('node.url'), t('node.state'), t('node.raft'), t('node.id')],
    c.masters.map((m) => [m.url || '—', stateBadge(m.id === c.leader ? 'leader' : m.state), m.raft,
      h('code', {}, m.id)])),
  table(t('picture.storages'), [t('node.url'), t('node.state'), { text: t('node.height'), right: true },
    t('node.cause'), t('node.id')],
    c.storages.map((one) => [one.url, stateBadge(one.live || one.state === 'invalid' ? one.state : 'gone'),
      number(one.height), message(one.cause_coded, one.cause) || '—', h('code', {}, one.id)])),
  table(t('picture.miners'), [t('node.url'), t('node.state'), t('node.id')],
    c.miners.map((m) => [m.url, stateBadge(m.live ? 'live' : 'gone'), h('code', {}, m.id)])),
];

