// What the reader may keep as a file.

import { h } from './dom.js';

/** save hands bytes or a text over as a file, of a type that a browser does not open by itself. */
export function save(data, name) {
  const url = URL.createObjectURL(new Blob([data], { type: 'application/octet-stream' }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
