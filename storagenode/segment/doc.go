// Package segment is the file format of a storage node's blocks: append-only files, each of consecutive blocks.
//
// A file is named after its first block, 20 decimal digits and ".seg". All integers are big endian:
//
//	file   magic "CSSG" ‖ version u8 = 1 ‖ 0 0 0 ‖ first block u64 ‖ CRC-32C u32 of the 16 bytes before ‖ frames
//	frame  length u32 ‖ CRC-32C u32 of the block ‖ block
//
// The block's bytes are those of package chain, payloads as they are. Frames stand one right behind the other. The
// checksum finds rot and torn writes; whether a block is the right one is for chain.Verifier.
//
// A process killed in the middle of an append leaves a torn tail: bytes behind the last whole frame. Bytes that do not fit
// before a whole frame are damage. This package tells what it finds; what to do about it is up to the storage node.
package segment
