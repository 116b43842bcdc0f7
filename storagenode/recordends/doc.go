// Package recordends finds where the records of a block are in its segment.
//
// An encoded block has a table with the end of each record, 4 bytes for each, between its header and its records. The
// table is too large to keep for all blocks: a storage node has no memory for each record. [Cache] keeps pieces of
// tables in bounded memory, so that reading a record is usually one read of the file.
package recordends
