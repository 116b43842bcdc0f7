// A table of records that grows by a page when its button is pressed.

import { t } from '../i18n.js';
import { h, replace } from './dom.js';
import { button, load, row, table } from './parts.js';

// cells makes the row of a record. page(cursor) requests the page after first, which is there.
export function paged(caption, columns, cells, first, page) {
  const list = table(caption, columns, first.records.map(cells));
  const more = h('div', { class: 'more' });
  const offer = (cursor) => replace(more, cursor ? button(t('more'), () => append(cursor)) : null);
  const append = (cursor) => load(more, () => page(cursor), (next) => {
    list.querySelector('tbody').append(...next.records.map((r) => row(cells(r), columns)));
    queueMicrotask(() => offer(next.next));
    return null;
  });
  offer(first.next);
  return [list, more];
}
