// Package storagenode keeps the chain on one machine's disk. It accepts blocks, checks each with chain.Verifier,
// makes it durable before it acknowledges it, and reads records and headers back with the proofs that show them to be
// right.
//
//	DIR/LOCK          held while the node runs
//	DIR/segments/     the blocks: package segment
//	DIR/tiles/        the tree's hashes: package tiles; and "synced", the head up to which they are durable
//	DIR/index         where each block is stored: package blockindex; rebuilt from the segments if it is missing
//	DIR/records/      from project, key and hash to leaves: package records; follows the chain
//	DIR/inbox/        blocks that wait while the node is not Valid: package inbox
//	DIR/quarantine/   bytes that were found damaged and moved aside
//	DIR/reserve       room for small files on a full disk: see [durable.KeepReserve]
//	DIR/running       exists while a node runs; stays if the node was not shut down
//	DIR/repair        the ticket of the repair that cut the chain last
//	DIR/lost          blocks that a person confirmed as lost
//
// Only the segments hold what cannot be computed again. They are synced at every block. Index and tiles are written
// after them without a sync, and synced when a segment is full, after some thousand blocks, and at the end. [Open]
// starts at the head in tiles/synced, proves that tiles and segments agree there, and verifies the blocks after it as
// [Node.Put] does.
//
// A check ([Node.Check]) is a job of the running node, on the leader's order. It reads all of the node's files as they
// are at their paths, and writes again what can be computed from the blocks. An audit is the part of it that judges the
// blocks: see package audit. To verify a folder is the same audit without a node, from the command line.
//
// A repair brings the blocks that are bad or missing from another node. [Node.Receive] is the leader's order to the
// node that lacks them, [Node.Send] the one to the node that has them, and [Node.Take] receives their stream. The
// receiver verifies everything, and writes the segments concerned again beside the old ones. The inbox has nothing to
// do with repairs: it keeps new blocks that the leader sends while the chain before them is not there yet.
// DESIGN.md describes checks and repairs.
//
// After a failed write or sync the node accepts no more blocks: see [Node.Failed].
package storagenode
