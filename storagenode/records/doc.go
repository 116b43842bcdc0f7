// Package records is a storage node's index of records: from a project, or a project and a key, to leaf indices, and
// from a hash to the leaf that has it.
//
// The index is a list of runs. Each run covers consecutive blocks and is a file that is written once and never changed.
// New blocks become a run of their own. Eight runs of a similar size are merged into one, so that there are few; a run
// of half a million leaves is not merged any more. A run has three sorted sections of 12-byte entries, in chunks of one
// page with a checksum each. A look-up reads about ten pages of a run. Memory holds only a file and a few numbers for
// each run.
//
// Nothing is synced, because all of it can be computed from the blocks. The length and the checksums of a file show the
// damage of a crash or a bad disk. The index then ends before that run, until its blocks are indexed again. The result
// of a look-up is a hint: hashes are cut to 64 bits here, so the caller must read the record and compare.
package records
