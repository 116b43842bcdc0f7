// Package snapfile encrypts the state of a snapshot in its file state.bin.
//
//	state.bin  "CSSE" ‖ version u8 ‖ zero × 3 ‖ chunk × n, at least one
//	           chunk = nonce[12] ‖ AES-256-GCM(text) ‖ tag[16]
//	           additional data: number of the chunk u64 ‖ 1 for the last one, else 0, u8
//	state.key  "CSSK" ‖ version u8 ‖ zero × 3 ‖ key header[88] ‖ CRC-32C u32 of everything before it
//
// The text of a chunk has 64 KiB, that of the last one may have less. Chunks cannot be moved, left out or cut off. The
// data key is in a file of its own, so that a new key of the operator does not change state.bin, of which raft has a
// checksum. The header of the key names the snapshot. Package atrest has the messages and headers.
package snapfile
