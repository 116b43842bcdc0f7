// The cluster as a picture: the masters in a ring, their buffer and blocks, the miner, and the storage nodes. They are
// in a row on wide screens and in a column on narrow ones. The picture is redrawn with each status, which is cheap.
// motion.js has the animations between the parts.

import { bytes, number, t } from '../i18n.js';
import { s } from './dom.js';

/** hostOf returns the displayed name of a node: its address without the scheme. */
export const hostOf = (url, id) => (url ? url.replace(/^https?:\/\//, '') : id);

/** layouts has the positions of the parts of the picture, in units of its view box. */
const layouts = {
  wide: (c) => ({
    name: 'wide',
    width: 1080, height: Math.max(336, 66 + 70 * c.storages.length),
    ring: { x: 176, y: 200, radius: 104 },
    buffer: { x: 396, y: 104, width: 84, height: 168 },
    blocks: { x: 538, y: 104, columns: 4 },
    miner: { x: 718, y: 188 },
    storages: { x: 806, y: Math.max(52, 193 - 35 * c.storages.length), width: 266, step: 70 },
    titles: { masters: [20, 40], buffer: [396, 80], blocks: [538, 80], miners: [688, 80],
      storages: [806, Math.max(40, 181 - 35 * c.storages.length)] },
    flows: [[332, 188, 384, 188], [492, 188, 528, 188], [646, 188, 676, 188], [760, 188, 796, 188]],
  }),
  narrow: (c) => ({
    name: 'narrow',
    width: 360, height: 606 + 70 * c.storages.length,
    ring: { x: 180, y: 178, radius: 104 },
    buffer: { x: 14, y: 372, width: 70, height: 130 },
    blocks: { x: 124, y: 372, columns: 4 },
    miner: { x: 308, y: 437 },
    storages: { x: 14, y: 592, width: 332, step: 70 },
    titles: { masters: [14, 24], buffer: [14, 350], blocks: [124, 350], miners: [268, 350], storages: [14, 580] },
    flows: [[49, 300, 49, 326], [92, 437, 116, 437], [236, 437, 262, 437], [308, 504, 308, 564]],
  }),
};

/** layoutOf selects a layout by the available width, in CSS pixels. */
export const layoutOf = (width, cluster) => layouts[width >= 840 ? 'wide' : 'narrow'](cluster);

/** drawPicture draws the picture of a cluster. words is its description for screen readers. */
export function drawPicture(cluster, layout, words) {
  const waiting = Math.max(cluster.head.height - cluster.stored, 0);
  return s('svg', { class: `picture ${layout.name}`, viewBox: `0 0 ${layout.width} ${layout.height}`, role: 'img',
    'aria-label': words },
    s('g', { class: 'titles' },
      Object.entries(layout.titles).map(([name, [x, y]]) => s('text', { x, y }, t(`picture.${name}`)))),
    layout.flows.map(([x1, y1, x2, y2]) => arrow(x1, y1, x2, y2)),
    masters(cluster, layout.ring),
    buffer(cluster, layout.buffer),
    blocks(cluster.pending.blocks, waiting, layout.blocks),
    miners(cluster, layout.miner),
    cluster.storages.length
      ? cluster.storages.map((one, i) => storage(one, cluster.head.height, layout.storages, i))
      : s('text', { class: 'note', x: layout.storages.x, y: layout.storages.y + 30 }, t('picture.noStorages')));
}

function arrow(x1, y1, x2, y2) {
  const down = x1 === x2;
  const tip = down
    ? `${x2 - 4},${y2 - 6} ${x2},${y2} ${x2 + 4},${y2 - 6}` : `${x2 - 6},${y2 - 4} ${x2},${y2} ${x2 - 6},${y2 + 4}`;
  return s('g', { class: 'flow' }, s('line', { x1, y1, x2, y2 }), s('polyline', { points: tip }));
}

/** place returns the position of master i of n in the ring; the first is at the top. */
export function place(i, n, { x, y, radius }) {
  if (n === 1) return { x, y };
  const angle = (2 * Math.PI * i) / n - Math.PI / 2;
  return { x: x + radius * Math.cos(angle), y: y + radius * Math.sin(angle) };
}

function masters({ masters: all, leader, term }, ring) {
  const leads = all.findIndex((m) => m.id === leader);
  const at = all.map((_, i) => place(i, all.length, ring));
  const links = all.map((m, i) => (leads < 0 || i === leads ? null : s('line', {
    class: `link ${m.state}`, x1: at[leads].x, y1: at[leads].y, x2: at[i].x, y2: at[i].y,
  })));
  const term2 = all.length > 1 && s('g', { class: 'term' },
    s('text', { x: ring.x, y: ring.y - 2 }, t('picture.term')),
      s('text', { class: 'big', x: ring.x, y: ring.y + 24 }, number(term)));
  return s('g', { class: 'masters' }, links, term2, all.map((m, i) => master(m, m.id === leader, at[i])));
}

function master(m, leads, { x, y }) {
  const [width, height] = [132, 46];
  const state = leads ? 'leader' : m.state;
  return s('g', { class: `master ${state}`, transform: `translate(${x - width / 2} ${y - height / 2})` },
    s('rect', { width, height, rx: 9 }),
    s('text', { class: 'name', x: width / 2, y: 20 }, hostOf(m.url, m.id)),
    s('text', { class: 'state', x: width / 2, y: 36 }, t(`state.${state}`) +
      (m.voter ? '' : ` · ${t('picture.learner')}`)));
}

/** buffer shows the buffer as a container that is full when it is cut into a block. */
function buffer({ buffer: now, cut }, { x, y, width, height }) {
  const part = cut ? Math.min(1, Math.max(now.records / cut.records, now.bytes / cut.bytes)) : Math.min(1,
    now.records / 100);
  const level = now.records ? Math.max(part * (height - 6), 3) : 0;
  return s('g', { class: 'buffer' },
    s('rect', { class: 'vessel', x, y, width, height, rx: 9 }),
    s('rect', { class: 'level', x: x + 3, y: y + height - 3 - level, width: width - 6, height: level,
      rx: Math.min(6, level / 2) }),
    s('text', { class: 'big', x: x + width / 2, y: y + height + 24 }, number(now.records)),
    s('text', { class: 'note middle', x: x + width / 2, y: y + height + 41 }, bytes(now.bytes)));
}

const shown = 12; // squares for pending blocks

/** blocks shows the blocks that are cut and not stored yet; mined ones are filled. */
function blocks(pending, mined, { x, y, columns }) {
  const squares = Array.from({ length: shown }, (_, i) => {
    const kind = i >= pending ? 'none' : i < mined ? 'mined' : 'cut';
    return s('rect', {
      class: `block ${kind}`, x: x + (i % columns) * 27, y: y + Math.floor(i / columns) * 27 + 42, width: 21,
        height: 21, rx: 4,
    });
  });
  return s('g', { class: 'blocks' }, squares,
    s('text', { class: 'big', x: x + 51, y: y + 152 }, number(pending)),
    s('text', { class: 'note middle', x: x + 51, y: y + 169 }, t('picture.notStored')));
}

/** miners are drawn as one, with the number of live miners. */
function miners({ miners: all, pending, head, stored }, { x, y }) {
  const live = all.filter((m) => m.live).length;
  const busy = live > 0 && pending.blocks > Math.max(head.height - stored, 0);
  const corners = Array.from({ length: 6 }, (_, i) => {
    const angle = (Math.PI / 3) * i - Math.PI / 2;
    return `${(34 * Math.cos(angle)).toFixed(1)},${(34 * Math.sin(angle)).toFixed(1)}`;
  });
  return s('g', { class: `miner ${live ? 'live' : 'gone'} ${busy ? 'busy' : ''}`, transform: `translate(${x} ${y})` },
    s('polygon', { points: corners.join(' ') }),
    s('path', { class: 'pick', d: 'M-12 -3 C-6 -11 6 -11 12 -3 M0 -8 L0 13' }),
    s('text', { class: 'note middle', y: 54 }, t('picture.live', { live, all: all.length })));
}

function storage(one, height, { x, y, width, step }, i) {
  const part = height ? Math.min(1, one.height / height) : 1;
  const state = one.live || one.state === 'invalid' ? one.state : 'gone';
  return s('g', { class: `storage state-${state}`, transform: `translate(${x} ${y + i * step})`,
    'data-storage': one.id },
    s('rect', { class: 'card', width, height: step - 10, rx: 9 }),
    s('path', { class: 'sign', transform: 'translate(20 22)', d: signs[state] ?? signs.valid }),
    s('text', { class: 'name', x: 36, y: 26 }, hostOf(one.url, one.id)),
    s('text', { class: 'state', x: width - 14, y: 26 }, t(`state.${state}`)),
    s('text', { class: 'height', x: width - 14, y: 47 }, t('picture.height', { height: one.height })),
    s('rect', { class: 'track', x: 14, y: 40, width: width - 130, height: 5, rx: 2.5 }),
    s('rect', { class: 'done', x: 14, y: 40, width: Math.max((width - 130) * part, 5), height: 5, rx: 2.5 }));
}

/** signs distinguish the states without colours. */
const signs = {
  valid: 'M-6 0L-2 4.5L6.5 -5',
  validating: 'M4 4L7.5 7.5M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0',
  invalid: 'M-5 -5L5 5M5 -5L-5 5',
  sending: 'M-6 0H6M2 -4L6 0L2 4',
  receiving: 'M6 0H-6M-2 -4L-6 0L-2 4',
  gone: 'M-6 0H-3M-1.5 0H1.5M3 0H6',
};
