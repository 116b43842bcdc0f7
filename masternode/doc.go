// Package masternode is one master: what its API offers, and its part in the group. The duties of the leader are in
// masternode/leader, reads from storage nodes in masternode/prover, keys and checkpoints in masternode/signing.
//
// # Appends
//
// Each master batches its clients' appends into submissions and delivers them to the leader, itself or another
// (append.go, submission.go). A submission has a name, so that it can be repeated after an unknown outcome and is
// appended once.
//
// # Reads
//
// A master answers from its own state while it holds the block. Otherwise a storage node answers, and the answer is
// proven from a root that the group committed (read.go). A negative answer is confirmed with the leader first
// (confirm.go).
//
// # Lists and streams
//
// A walk goes along the records of a query: those that the index of a storage node has, each proven and compared with
// the query, and after them those that the masters hold (list.go). A page is a part of a walk. A stream is a walk that
// continues as the state grows (stream.go).
//
// # The log
//
// translog.go has the keys, checkpoints, tiles and entries of the transparency log, receipts.go proofs and receipts.
//
// # The group
//
// A master keeps itself known to its group (announce.go), and the leader admits and removes masters (admit.go,
// membership.go). Whatever only the leader can do reaches it through one function (leadercall.go). cluster.go and
// integrity.go report the status, with the notices of notices.go.
package masternode
