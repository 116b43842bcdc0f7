// Package masterstest has in-memory doubles of the dependencies of a master, for the tests of masternode and of the
// packages below it: [Ledger] is the replicated state, [Workers] are storage nodes and miners, [Membership] is raft's
// configuration, [Masters] are the other masters. They check their arguments.
package masterstest
