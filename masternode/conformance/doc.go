// Package conformance has test suites for the interfaces that connect a master with the outside. The double in
// masternode/internal/masterstest and the real implementation must pass the same suite, so that tests with the double
// are representative. [Ledger] and [Deposed] test a masternode.Ledger: the double, and that of raftstore. [Workers]
// tests a masternode.Workers: the double, and internal/noderpc with a storage node. [Masters] tests a
// masternode.Masters: the double, and internal/noderpc with two masters.
package conformance
