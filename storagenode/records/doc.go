// Package records is a storage node's index of records: from a project, or a project and a key, to leaf indices, and from a hash to
// the leaf that has it.
//
// It is a list of runs, each the index of some blocks in a row, in a file that is written once and never changed. New blocks become a
// run of their own, and eight of a like size are merged, so that there are few; one of half a million leaves is merged no more. A run holds three
// sections of entries of 12 bytes, sorted, in chunks of a page with a checksum each, so that a look-up reads some ten pages of a run.
// Nothing is kept in memory but a file and a few numbers for each run.
//
// Nothing is synced, since all of it can be computed from the blocks: what a crash or a bad disk makes of a file shows in its length
// and its checksums, and the index then ends before that run, until those blocks are indexed again. What a look-up finds is a hint: a
// hash is cut to 64 bits here, and whoever uses a hit reads the record and compares.
package records
