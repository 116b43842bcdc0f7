// Package tiles keeps the hashes of the chain's tree on disk, so that a proof can be read instead of computed from all
// records.
//
// It stores every fourth level of the tree: level 0 (the leaf hashes), 4, 8, … 60. Each level is one file, "tiles/00",
// "tiles/04", …, which only grows: a header of 512 bytes, then hash n of the level, 32 bytes, at 512 + 32·n. Hash n of
// level l is the root of the complete subtree over the leaves n·2^l up to (n+1)·2^l (RFC 6962 section 2.1); a subtree
// that is not complete is not stored. In total that is 32·16/15, about 34 bytes per leaf.
//
//	header  magic "CSTL" ‖ version u8 = 1 ‖ level u8 ‖ zeros up to 512 bytes
//
//	tiles/04   root of leaves 0..15   root of leaves 16..31   …
//	tiles/00   leaf 0  leaf 1  …  leaf 15  leaf 16  …
//
// The sixteen hashes below one hash of the next stored level are a tile: 512 bytes, aligned, one read. The levels
// between are computed from it. So four levels of an inclusion path cost one read and at most 14 hashes, and the upper
// levels stay in a small cache. A C2SP tlog-tiles tile of height 8 is 8 KiB in a row of levels 0, 8, 16, ….
//
// The files are not synced at each append, because all of them can be rebuilt from the blocks. The storage node knows
// up to where they are good.
package tiles
