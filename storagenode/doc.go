// Package storagenode keeps the chain on one machine's disk: it takes blocks, checks each with chain.Verifier, makes it
// durable before it says so, and reads records and headers back with the proofs that show them to be right.
//
//	DIR/LOCK          held while the node runs
//	DIR/segments/     the blocks: package segment
//	DIR/tiles/        the tree's hashes: package tiles; and "synced", the head up to which they are on disk for sure
//	DIR/index         where each block stands; rebuilt from the segments where it is missing
//	DIR/records/      from project, key and hash to leaves: package records; follows the chain
//	DIR/inbox/        blocks that wait while the node is not Valid
//	DIR/quarantine/   bytes that were found damaged and moved aside
//	DIR/running       there while a node has the folder; left behind by one that was not shut down
//	DIR/repair        for which ticket of a repair the chain was cut
//	DIR/lost          blocks that a person confirmed as lost
//
// Only the segments hold what cannot be computed again. They are synced at every block; index and tiles are written
// behind them without a sync, and synced when a segment is full, after some thousand blocks, and at the end. [Open]
// takes up at the head in tiles/synced, proves that tiles and segments agree there, and puts the blocks behind it
// through the verifier as [Node.Put] does.
//
// A check ([Node.Check]) reads the whole chain from the files as they are at their paths; see audit for how it goes on behind a bad
// block. A repair ([Node.Receive], [Node.Send], [Node.Take]) brings just the blocks that are bad or missing from another node; the
// receiver believes nobody, and makes the segments concerned anew beside the old ones.
//
// After a failed write or sync the node takes no more blocks: see [Node.Failed].
package storagenode
