// Saving data as a file.

import { h } from './dom.js';

/** save offers bytes or a text as a file, with a type that a browser does not open by itself. */
export function save(data, name) {
  const url = URL.createObjectURL(new Blob([data], { type: 'application/octet-stream' }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
