// Package prover reads records, headers, tiles and search results from storage nodes. It returns nothing that it cannot
// prove from a root that the group has committed:
//
//	record ─► its leaf ─path─► header.Root ─► header ─► its seal ─path─► root of a block boundary in the table
//	entry ─► leaf hash, in a tile ─► hash of that tile, in the one above ─► … ─► root of a block boundary in the table
//
// A node that answers wrong, or not at all, is asked last for a while, and the read goes to another node. A wrong
// answer is also reported, so that the leader has the node checked.
//
// prover.go has the configuration. provenrecords.go, provenheaders.go, proventiles.go and provenentries.go read each
// kind of data. runcache.go keeps proven tiles and bundles, and recordcache.go proven records. nodechoice.go chooses
// the node to ask and calls it. search.go asks the nodes' indexes.
package prover
