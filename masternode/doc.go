// Package masternode is one master: the service that its API offers, and the duties of the leader.
//
// # Appends
//
// Each master gathers its clients' appends into submissions (gather.go, append.go) and delivers them to the leader, itself or
// another (deliver.go). A submission carries a name, so that it can be sent again after an unknown outcome and is appended once.
//
// # Reads
//
// A master answers from its own state while it holds the block (read.go); what it no longer holds it has a storage node
// prove against roots that the group committed (prove.go). What is not found is confirmed with the leader first (confirm.go).
//
// # Lists and streams
//
// A walk (list.go) goes along the records of a query: those whose places a storage node's index tells, each proven and compared with the
// query (provelist.go), and behind them those that the masters hold. A page is some of it; a stream (stream.go) is a walk that goes on as
// the state grows. That a list ends is confirmed with the leader. lookup.go has what is found by block and by hash.
//
// # Proofs
//
// tree.go reads hashes and leaves of the tree from storage nodes, each proven from a root that the group committed. From it come the tiles that
// outsiders read (tiles.go), proofs and receipts (proofs.go).
//
// # The leader
//
// plan.go says, as a pure function of the replicated state, the leader's memory and the time, what should be under way; lead.go
// starts and cancels it, with one function for each kind of action (execute.go; check.go and repair.go for those that look after the
// storage nodes, whose part of the policy is planintegrity.go). Nothing is handed from leader to leader.
//
// # Witnesses
//
// The leader has witnesses cosign the checkpoint: planwitness.go is that part of the policy, with what is known of each witness; cosign.go
// submits and commits; witness.go reads the flag and finds the cosignature in an answer.
//
// # Integrity
//
// prove.go reports whoever answers wrong; integrity.go brings that to the leader, and tells the story.
package masternode
