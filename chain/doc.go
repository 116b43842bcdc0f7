// Package chain defines records, leaves, blocks, the tree and proof of work, and checks them.
//
// One global RFC 6962 Merkle tree runs through the chain. A block adds one leaf for each of its records and then one
// seal, a leaf that is the block's own mined header, nonce included. A signature over the tree therefore covers
// records, links and proof of work alike, and a block can be checked alone.
//
//	leaf index   0      1      2      3      4      5      6
//	           record record  seal  record record record  seal
//	           └── block 0 ──────┘  └────── block 1 ─────────┘
//	           first=0, count=2     first=3, count=3
//
// The package is pure: no I/O, no clock, no randomness, no goroutine. Everything that must decide whether a block is
// good (storage nodes, repair, checks, the verify command, the tests) uses the one [Verifier] of this package.
//
// The bytes are drawn in docs/formats.md, with test vectors.
//
// The public Go API of ChainStore consists of the packages chain, wire, client and verify. All other packages may
// change in any release.
package chain
