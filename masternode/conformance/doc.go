// Package conformance has one suite of tests for each interface through which a master reaches the outside: [Ledger]
// and [Deposed], [Workers], [Masters]. The doubles in masternode/internal/masterstest and the real implementations, in
// raftstore and internal/noderpc, pass the same suites. So a test with a double says something about the real one.
package conformance
