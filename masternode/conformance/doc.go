// Package conformance has suites of tests for the interfaces through which a master reaches the outside. The double in
// masternode/internal/masterstest and the real implementation pass the same suite, so a test with the double says
// something about the real one. [Ledger] and [Deposed] test a masternode.Ledger: the double, and that of raftstore.
// [Workers] tests a masternode.Workers: the double, and internal/noderpc with a storage node.
package conformance
