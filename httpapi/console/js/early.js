// Sets the chosen theme before the first paint, so that the page does not flash in the other theme.
try {
  const theme = localStorage.getItem('chainstore.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is disabled: use the system's theme.
}
