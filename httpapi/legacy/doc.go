// Package legacy serves the API of the original system, path for path, so that its clients run unchanged.
// docs/compatibility.md lists the differences.
//
// Texts go in and out byte for byte (text.go): the original's clients do not all write UTF-8, and encoding/json would
// replace what is not UTF-8 with U+FFFD. Tokens are in bodies and query strings, which nothing here logs.
package legacy
