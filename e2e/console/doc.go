// Package console holds the tests of the console in a real browser: Debian's chromium, driven by chromedp.
//
// Most of them look at a fake cluster (fake_test.go), three servers that answer the console's routes out of memory,
// from a chain whose hashes, work and proofs are true (chain_test.go): there a test has at once the state that it wants
// to look at. TestConsoleOnCluster does the main steps on a whole cluster.
//
// In every test the page may ask the masters and nobody else, throw no exception, and write no error or warning to the
// browser's console. Where there is no chromium the tests are skipped and say so, and so is the test of accessibility
// where npm has no axe-core.
//
// CHAINSTORE_SCREENSHOTS=FOLDER has TestScreenshots write pictures of the pages there (make screenshots).
package console
