// The page is selected by the part of the address after #, so a master serves one file for all pages.

/** href is the address of a page, with its parameters. */
export function href(path, query = {}) {
  const told = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '' && v !== undefined &&
    v !== null)).toString();
  return `#/${path}${told ? `?${told}` : ''}`;
}

/** go opens a page. */
export const go = (path, query) => {
  location.hash = href(path, query);
};

export const recordHref = (r) => href(`record/${r.block}/${r.offset}`);

/** current reads the address: {parts, query}. */
export function current() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { parts: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query ?? '') };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
