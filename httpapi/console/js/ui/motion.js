// Animations in the picture of the cluster: a dot for records that the leader accepted, a square for a block that the
// storage nodes stored.

import { calm, s } from './dom.js';
import { place } from './picture.js';

/** travel moves a shape from one place to another and removes it. */
function travel(svg, shape, from, to, delay) {
  svg.append(shape);
  const at = (p, opacity) => ({ transform: `translate(${p.x}px, ${p.y}px)`, opacity });
  const moving = shape.animate([at(from, 0), { ...at(from, 1), offset: 0.15 }, { ...at(to, 1), offset: 0.85 },
    at(to, 0)], {
    duration: 800, delay, easing: 'cubic-bezier(.4,0,.2,1)', fill: 'both',
  });
  moving.onfinish = () => shape.remove();
}

/** move animates the changes between two statuses of a cluster. */
export function move(svg, before, now, layout) {
  if (!before || calm() || document.hidden) return;
  const { ring, buffer, miner, storages } = layout;
  if (now.records > before.records) {
    const leads = now.masters.findIndex((m) => m.id === now.leader);
    const vessel = { x: buffer.x + buffer.width / 2, y: buffer.y + 14 };
    const from = leads < 0 ? ring : place(leads, now.masters.length, ring);
    for (let i = 0; i < Math.min(3, now.records - before.records); i++) {
      travel(svg, s('circle', { class: 'moving record', r: 4 }), from, vessel, 120 * i);
    }
  }
  if (now.head.height > before.head.height) {
    now.storages.forEach((one, i) => {
      if (!one.live || one.height <= (before.storages.find((b) => b.id === one.id)?.height ?? 0)) return;
      const card = { x: storages.x + 20, y: storages.y + storages.step * i + 22 };
      travel(svg, s('rect', { class: 'moving block', x: -7, y: -7, width: 14, height: 14, rx: 3 }), miner, card,
        60 * i);
    });
  }
}
