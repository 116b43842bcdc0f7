// Package audit reads a chain from the files of a storage node, as they are at their paths, and finds every block
// that is not what it should be. A check is a job of the running node that uses it, with [New], for the blocks, and
// that also looks at the files that are computed from them. [Verify] uses it for a folder, and changes nothing there.
//
// A [chain.Verifier] judges the blocks in order, starting at block 0. A bad block hides the tree behind it. The stored
// leaf hashes can show it again: an audit appends them to the tree before the bad block, up to the next block that is
// whole. If that block's root fits the result, the stored hashes are proven, and with them the blocks on both sides.
// This is a bridge. Until a bridge succeeds, the blocks behind the bad one are undecided.
//
// A block that was changed and mined again passes by itself, and the next block does not follow. Stored hashes settle
// this too. If they differed from the changed block's hashes, and a bridge along them reaches the block that does not
// follow, the changed block is bad and that one is good.
//
// ../DESIGN.md describes how checks and repairs use an audit.
package audit
