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
//	DIR/running       exists while a node runs; stays if the node was not shut down
//	DIR/repair        the ticket of the repair that cut the chain last
//	DIR/lost          blocks that a person confirmed as lost
//
// Only the segments hold what cannot be computed again. They are synced at every block. Index and tiles are written
// after them without a sync, and synced when a segment is full, after some thousand blocks, and at the end. [Open]
// starts at the head in tiles/synced, proves that tiles and segments agree there, and verifies the blocks after it as
// [Node.Put] does.
//
// A check ([Node.Check]) reads the whole chain from the files as they are at their paths; see package audit. A repair
// ([Node.Receive], [Node.Send], [Node.Take]) brings only the blocks that are bad or missing from another node. The
// receiver verifies everything, and writes the segments concerned again beside the old ones. DESIGN.md describes both.
//
// After a failed write or sync the node accepts no more blocks: see [Node.Failed].
package storagenode
