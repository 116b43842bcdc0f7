// Package console contains the tests of the console in a real browser: Debian's chromium, driven by chromedp.
//
// Most tests use a fake cluster (fake_test.go): three servers that serve the console's routes from memory, with a chain
// of valid hashes, work and proofs. With the fake a test can set up any state at once. TestConsoleOnCluster runs the
// main steps on a real cluster.
//
// In every test the page may send requests only to the masters. It must not throw an exception, or write an error or a
// warning to the browser's console. Without chromium the tests are skipped with a message. The accessibility test is
// also skipped if axe-core cannot be installed from npm.
//
// With CHAINSTORE_SCREENSHOTS=FOLDER, TestScreenshots writes screenshots of the pages to that folder (make
// screenshots).
package console
