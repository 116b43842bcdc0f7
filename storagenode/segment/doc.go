// Package segment is the file format of a storage node's blocks: append-only files of consecutive blocks.
//
// A file is named after its first block, 20 decimal digits and ".seg". All integers are big endian:
//
//	file   magic "CSSG" ‖ version u8 = 1 ‖ 0 0 0 ‖ first block u64 ‖ CRC-32C u32 of all before ‖ frames
//	frame  length u32 ‖ CRC-32C u32 of the block ‖ block
//
// A block's bytes are those of package chain, payloads included. Frames follow each other without a gap. The checksum
// finds bit rot and torn writes. Whether a block is the right one is for chain.Verifier to decide.
//
// A process that is killed during an append leaves a torn tail: bytes after the last whole frame. Bytes that are not a
// frame and precede a whole one are damage. This package reports what it finds. The storage node decides what to do.
package segment
