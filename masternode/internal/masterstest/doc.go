// Package masterstest has in-memory doubles of what a master depends on, for the tests of masternode and of the
// packages below it: [Ledger] is the replicated state, [Workers] are storage nodes and miners, [Membership] is raft's
// configuration. They check what they are called with.
package masterstest
