// Package raftstore replicates a [masterfsm.State] between the masters, with hashicorp/raft and raft-boltdb. It knows
// nothing of HTTP and of the leader's duties; package masternode does.
//
// # The data folder
//
//	LOCK          held by the process that has the folder
//	master.json   format version, member id, boot number, group and founding members (mode 0600)
//	raft.db       raft's log and votes (bbolt, synced twice at each commit)
//	snapshots/    the last two snapshots of the state
//
// The member id is random and lives in the folder, so a wiped disk is a new member. A master is new until it founds a group
// or is adopted by one; before that it takes no raft connection at all, so it can neither vote nor be led.
//
// # Addresses and connections
//
// Raft's own messages do not name their receiver, and a voter with an empty configuration grants any vote. So raft's server
// address is "memberid@host:port", and each connection opens with a handshake ([handshakeKey]) in which both sides prove
// that they have the cluster token, and that they mean this group and this member. A wiped disk at an old address is
// another member and is left alone.
//
// A dial to a member that does not answer is tried again until raft's own time for the call is over, instead of failing at
// once: raft waits up to ten seconds before it replicates again to a follower whose calls failed quickly.
//
// # Failures
//
// After a failed write or sync nobody goes on, see package durable. The first one, a damaged entry or snapshot, and a
// committed entry that cannot be decoded are told once on [Store.Failed]. Where raft would panic or go on after an error
// of its log, the goroutine that met it ends instead, by [runtime.Goexit], which runs raft's own deferred clean-up.
//
// Each log entry carries a CRC-32C of its index, term, type and data in raft's extension field. It is checked where an
// entry comes from another master or from the disk. A snapshot's state has raft's checksum, what the snapshot says of itself one of this
// package's, in meta.sum. A folder in which raft.db has lost what raft wrote, or whose log does not begin where a snapshot ends, is not
// opened: master.json notes that raft has begun.
//
// # Log and snapshots
//
// Raft's own snapshot timer is off; the store decides, after each applied batch. A snapshot is due after SnapshotBytes of
// log or SnapshotEntries entries. It waits until the log has grown by as much as the last snapshot was large, so that
// snapshots never write more than the log does, but for at most 16 times SnapshotEntries, which bounds what a restart
// replays.
//
// Raft trims its log to a count of entries that stay behind a snapshot, for followers that are a little behind and for one
// that a snapshot is on its way to. That count is set anew before each snapshot, from the sizes of the entries: twice
// SnapshotEntries, or as many as have TrailingBytes together (by default twice SnapshotBytes) when that is fewer. So
// raft.db, which reuses its pages and never shrinks, comes to hold entries of at most the larger of SnapshotBytes and the
// size of a snapshot, and TrailingBytes: 192 MiB by default while the state is small, 0.5 GiB once it was as large as it
// may be. To that comes what arrives while a snapshot is written, and up to 32 MiB for bbolt, which grows its file in steps
// of 16 MiB and needs pages side by side. Small entries, of an idle or slow cluster, are bounded by their number: 18 times
// SnapshotEntries, less than 100 MiB. Two snapshots stay, and a third is there while it is written.
//
// Raft reads all entries behind its snapshot when it starts, to find the members, and once more to apply them: up to 64 MiB
// of them stay in memory in between.
//
// # Silence of the leader
//
// Raft looks for a heartbeat at random moments, one to two timeouts apart, and a follower that believes in a leader
// refuses its vote to another; so a dead leader would be replaced after one to three timeouts and more. The store has
// raft look at the right time instead (watchLeader), which brings it to one and a half.
//
// # Goroutines
//
// The store owns: one that drains raft's leadership notices (and never calls raft), one for its leader observations, one
// that takes snapshots, one that confirms leadership for reads, and those of the stream layer. [Store.Close] waits for all.
package raftstore
